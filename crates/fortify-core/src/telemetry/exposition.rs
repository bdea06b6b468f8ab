//! The two text forms that metrics are read in.
//!
//! Prometheus asks for `OpenMetrics`, which is what the library writes. Much else (`promtool check
//! metrics`, agents, a person with curl) reads the older text form alone, and takes the newer one for a
//! faulty older one: types of its own, and counters under other names in the comments than in the samples.

use std::fmt::Write as _;

/// A text form, and the name that a client asks for it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Version 1.0.0 of the specification.
    OpenMetrics,
    /// Version 0.0.4 of Prometheus' own form.
    Text,
}

impl Format {
    /// What a client gets whose `Accept` header is this: the newer form only if it names it.
    #[must_use]
    pub fn wanted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    /// The media type of the answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// `openmetrics`, as the library writes it, in this form.
    #[must_use]
    pub fn write(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => text(&openmetrics),
        }
    }
}

/// The older form of the newer one. The samples are the same in both; the comments above them are not.
fn text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // The help stands before the type, which says what the name is in the older form.
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
