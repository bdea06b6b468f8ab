//! Metrics that the kernel keeps about this process: memory, open files, processor time.
//!
//! They are read from `/proc` at every scrape, which takes about 50 microseconds. A metric that cannot be
//! read is left out: zero would look like a measurement.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Ticks of processor time per second: `USER_HZ`, which is 100 for programs on every architecture that Rust
/// supports on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Collects from a directory with the layout of `/proc/self`.
#[derive(Debug)]
pub struct ProcessCollector {
    folder: PathBuf,
}

impl ProcessCollector {
    /// A collector for this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self { folder: PathBuf::from("/proc/self") }
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: Option<i64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, unit, kind(&gauge))?;
            gauge.encode(metric)
        };
        let resident = self.read("status").as_deref().and_then(resident_bytes);
        gauge("process_resident_memory", "Memory in use", Some(&Unit::Bytes), resident)?;
        let open = open_files(&self.folder.join("fd"));
        gauge("process_open_fds", "Open files, connections included", None, open)?;
        let most = self.read("limits").as_deref().and_then(max_files);
        gauge("process_max_fds", "Limit of open files", None, most)?;
        if let Some(seconds) = self.read("stat").as_deref().and_then(cpu_seconds) {
            let counter = ConstCounter::new(seconds);
            let (help, unit) = ("Processor time used", Some(&Unit::Seconds));
            let metric = encoder.encode_descriptor(
                "process_cpu",
                help,
                unit,
                EncodeMetric::metric_type(&counter),
            )?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

fn kind(metric: &impl EncodeMetric) -> prometheus_client::metrics::MetricType {
    metric.metric_type()
}

/// `VmRSS` of `/proc/self/status`, which is in KiB whatever the page size.
fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok()?.checked_mul(1024)
}

/// The soft limit in `/proc/self/limits`; `None` where there is none.
fn max_files(limits: &str) -> Option<i64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time, the 14th and 15th field of `/proc/self/stat`. The second field is the program's
/// name in brackets, which may hold blanks and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some((f64::from(ticks()?) + f64::from(ticks()?)) / TICKS_PER_SECOND)
}

/// Counts the entries of `folder`, less the one for reading the folder itself.
fn open_files(folder: &Path) -> Option<i64> {
    let entries = fs::read_dir(folder).ok()?.count();
    i64::try_from(entries.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_the_kernel_writes_them() {
        assert_eq!(resident_bytes("Name:\tfortify\nVmRSS:\t   18360 kB\n"), Some(18_800_640));
        assert_eq!(resident_bytes("Name:\tfortify\n"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\n\
            Max open files            65536                524288               files\n";
        assert_eq!(max_files(limits), Some(65_536));
        assert_eq!(max_files("Max open files   unlimited  unlimited  files\n"), None);
        let stat = "7 (a) (b) S 1 7 7 0 -1 4194560 99 0 0 0 150 50 0 0 20 0 4 0 88 1 2";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let nowhere = ProcessCollector { folder: PathBuf::from("/nonexistent") };
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(nowhere));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert_eq!(text, "# EOF\n");
    }
}
