//! The two text formats of metrics.
//!
//! Prometheus asks for `OpenMetrics`, which the library writes. Other readers (`promtool check metrics`,
//! agents, curl) accept only the older text format, and reject the newer one because of its types and the
//! names of counters in its comments.

use std::fmt::Write as _;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Version 1.0.0 of the specification.
    OpenMetrics,
    /// Version 0.0.4 of Prometheus' own format.
    Text,
}

impl Format {
    /// The format for a client with this `Accept` header: `OpenMetrics` only if it asks for it.
    #[must_use]
    pub fn wanted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    /// The media type of the response.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts `openmetrics`, as the library writes it, into this format.
    #[must_use]
    pub fn write(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => text(&openmetrics),
        }
    }
}

/// Converts `OpenMetrics` into the older format. The samples are the same; the comments above them differ.
fn text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // The help comes before the type, which decides the name in the older format.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "gauge" | "histogram" => ("", kind),
                _ => ("", "untyped"),
            };
            // Writing to a String does not fail.
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                let _always = writeln!(text, "# HELP {name}{suffix} {words}");
            }
            let _always = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form_names_a_counter_as_its_samples_do() {
        let openmetrics = "# HELP fortify_build Version.\n# TYPE fortify_build info\n\
            fortify_build_info{version=\"1\"} 1\n# HELP a_redeems Judged.\n# TYPE a_redeems counter\n\
            a_redeems_total{outcome=\"ok\"} 1\n# HELP a_lag_seconds Age.\n# UNIT a_lag_seconds seconds\n\
            # TYPE a_lag_seconds gauge\na_lag_seconds 0.5\n# EOF\n";
        let expected = "# HELP fortify_build_info Version.\n# TYPE fortify_build_info gauge\n\
            fortify_build_info{version=\"1\"} 1\n# HELP a_redeems_total Judged.\n\
            # TYPE a_redeems_total counter\na_redeems_total{outcome=\"ok\"} 1\n\
            # HELP a_lag_seconds Age.\n# TYPE a_lag_seconds gauge\na_lag_seconds 0.5\n";
        assert_eq!(Format::Text.write(openmetrics.to_owned()), expected);
        assert_eq!(Format::OpenMetrics.write(openmetrics.to_owned()), openmetrics);
    }

    #[test]
    fn the_newer_form_is_for_who_asks_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
        assert_eq!(Format::wanted(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(Format::wanted(Some("*/*")), Format::Text);
        assert_eq!(Format::wanted(None), Format::Text);
    }
}
