//! Questions that only a running gate can answer: `fortify status`, `explain`, `challenges` and `behaviour`.

use std::io::Write;

use anstyle::Style;
use serde_json::Value;

use super::CliError;
use super::args::Circuit;
use super::circuits::status_text;
use super::remote::Remote;
use super::show::{self, BAD, Format, GOOD, MIND, line, styled, text, words};

/// `fortify status`.
pub(super) fn status(gate: &Remote, format: Format, out: &mut dyn Write) -> Result<(), CliError> {
    let status = gate.get("/status")?;
    show::write(format, &status, out, |status, out| {
        let (ready, style) =
            if status["ready"] == true { ("ready", GOOD) } else { ("not ready", BAD) };
        styled(out, "GATE", &format!("{ready}, version {}", text(&status["version"])), style)?;
        line(out, "UPTIME", &format!("{} s", status["uptime_seconds"]))?;
        line(out, "LEVEL", &format!("{}, {}", status["level"], text(&status["mode"])))?;
        let style = match text(&status["state"]) {
            "calm" => GOOD,
            "busy" => MIND,
            _ => BAD,
        };
        styled(out, "SITE", text(&status["verdict"]), style)?;
        for (name, key) in [("DONE", "done"), ("YOU MAY", "advice")] {
            let words = text(&status[key]);
            if !words.is_empty() {
                line(out, name, words)?;
            }
        }
        for dependency in status["dependencies"].as_array().into_iter().flatten() {
            let name = text(&dependency["name"]).to_ascii_uppercase();
            let state = text(&dependency["state"]);
            let style = match (state, dependency["required"] == true) {
                ("ok", _) => GOOD,
                ("down", true) => BAD,
                ("down", false) => MIND,
                _ => Style::new(),
            };
            styled(out, &name, state, style)?;
        }
        for damage in status["damaged"].as_array().into_iter().flatten() {
            let lost = damage["lost"].as_u64().map(|lost| format!(", {lost} records lost"));
            let what = format!("{}{}", text(&damage["file"]), lost.unwrap_or_default());
            styled(out, "DAMAGED", &what, MIND)?;
        }
        let (totals, rates) = (&status["totals"], &status["per_second"]);
        for (name, key) in
            [("ADMITTED", "admitted"), ("CHALLENGED", "challenged"), ("REFUSED", "refused")]
        {
            let rate = rates[key].as_f64().unwrap_or(0.0);
            line(out, name, &format!("{} ({rate:.1} a second)", totals[key]))?;
        }
        line(out, "CHALLENGES", &format!("{} unanswered", status["active_challenges"]))?;
        line(out, "QUEUE", &format!("{} visitors wait for a challenge", status["queue"]))?;
        line(
            out,
            "CIRCUITS",
            &format!("{} trusted, {} banned", status["trusted"], status["banned"]),
        )?;
        for reason in status["reasons"].as_array().into_iter().flatten() {
            line(out, "REASON", &format!("{} ({})", text(&reason["reason"]), reason["count"]))?;
        }
        Ok(())
    })
}

/// `fortify explain`.
pub(super) fn explain(
    gate: &Remote,
    circuit: &Circuit,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let explanation = gate.get(&format!("{}/explain", circuit.path()))?;
    show::write(format, &explanation, out, |it, out| {
        line(out, "CIRCUIT", text(&it["circuit"]["circuit"]))?;
        let (status, style) = status_text(&it["circuit"]);
        styled(out, "STATUS", &status, style)?;
        line(out, "LEVEL", &it["level"].to_string())?;
        for (name, key) in
            [("WITHOUT SESSION", "without_session"), ("WITH SESSION", "with_session")]
        {
            line(out, name, &decision(&it[key]))?;
        }
        if let Some(history) = it["answer_history"].as_object() {
            let of = |key: &str| history.get(key).cloned().unwrap_or_default();
            let points = of("points").as_f64().unwrap_or(0.0);
            let points = format!("{points:.1} of {} points", of("ban_at"));
            line(
                out,
                "ANSWERS",
                &format!("{points}, {} right, {} wrong", of("solved"), of("failed")),
            )?;
            if let Some(words) = words(&of("suspicions")) {
                line(out, "SUSPICIONS", &words)?;
            }
        }
        line(out, "FAILURES", &format!("{}, waits {} s", it["failures"], it["wait_seconds"]))?;
        let asked = &it["quota"];
        if asked.is_object() {
            let (minute, hour) = (&asked["minute"], &asked["hour"]);
            let most = (&asked["minute_most"], &asked["hour_most"]);
            let asked =
                format!("{minute} of {} in a minute, {hour} of {} in an hour", most.0, most.1);
            line(out, "QUOTA", &asked)?;
        }
        let behaviour = &it["behaviour"];
        if behaviour.is_object() {
            let class = behaviour["class"].as_str().unwrap_or("ordinary");
            let why = words(&behaviour["reasons"]).map(|it| format!(" ({it})")).unwrap_or_default();
            line(out, "LOOKS", &format!("{class}{why}"))?;
            let rate = behaviour["requests_per_minute"].as_f64().unwrap_or(0.0);
            line(out, "REQUESTS", &format!("{rate:.0} a minute, {}", behaviour["counts"]))?;
        }
        Ok(())
    })
}

fn decision(decided: &Value) -> String {
    let mut line = text(&decided["decision"]).to_owned();
    if let Some(stages @ 1..) = decided["stages"].as_u64() {
        let hard = if decided["hard"] == true { " of a stricter kind" } else { "" };
        line += &format!(", {stages} challenge(s){hard}");
    }
    if let Some(seconds) = decided["seconds"].as_u64() {
        line += &format!(", for {seconds} s");
    }
    match words(&decided["reasons"]) {
        Some(reasons) => format!("{line}: {reasons}"),
        None => line,
    }
}

/// `fortify challenges`.
pub(super) fn challenges(
    gate: &Remote,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    show::write(format, &gate.get("/challenges")?, out, |it, out| {
        let title = format!(
            "{:<24} {:<9} {:>5} {:>9} {:>9} {:>9} {:>7} {:>8} {:>8}",
            "TASK",
            "RENDERING",
            "LEVEL",
            "ISSUED",
            "SOLVED",
            "WRONG",
            "DECOY",
            "P50 (S)",
            "P90 (S)"
        );
        show::head(out, &title)?;
        let kinds = it["kinds"].as_array().into_iter().flatten();
        for figures in kinds.chain([&it["all"]]) {
            let seconds = |key: &str| match figures[key].as_f64() {
                Some(seconds) => format!("{seconds:.1}"),
                None => "-".to_owned(),
            };
            let number = |key: &str| figures[key].as_u64().unwrap_or(0);
            let level = figures["level"].as_u64().map(|it| it.to_string()).unwrap_or_default();
            let row = format!(
                "{:<24} {:<9} {level:>5} {:>9} {:>9} {:>9} {:>7} {:>8} {:>8}",
                figures["variant"].as_str().unwrap_or("all"),
                figures["carrier"].as_str().unwrap_or_default(),
                number("issued"),
                number("solved"),
                number("failed"),
                number("decoy"),
                seconds("seconds_p50"),
                seconds("seconds_p90"),
            );
            show::row(out, &row)?;
        }
        Ok(())
    })
}

/// `fortify behaviour`.
pub(super) fn behaviour(
    gate: &Remote,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    show::write(format, &gate.get("/behaviour")?, out, |it, out| {
        let report = &it["report"];
        let (acts, acts_in) = (report["acts"] == true, report["acts_in"].as_u64().unwrap_or(0));
        let does = match (acts, acts_in) {
            (true, _) => "acts".to_owned(),
            (false, 0) => "only counts".to_owned(),
            (false, seconds) => format!("only counts, and acts in {}", duration(seconds)),
        };
        let style = if acts { GOOD } else { MIND };
        styled(out, "MODE", &format!("{}: {does}", text(&report["mode"])), style)?;
        line(out, "REQUESTS", &report["requests"].to_string())?;
        line(out, "CIRCUITS", &format!("{} remembered", report["circuits"]))?;
        let would = if acts { "must solve" } else { "would have to solve" };
        line(out, "SUSPICIOUS", &format!("{would} {}", asked(&it["found"])))?;
        line(out, "OTHERS", &format!("must solve {}", asked(&it["others"])))?;
        writeln!(out)?;
        let met = if acts { "STRICTER" } else { "WOULD BE STRICTER" };
        show::head(out, &format!("{:<24} {:>10} {met:>18}", "CLASS", "CIRCUITS"))?;
        for class in report["classes"].as_array().into_iter().flatten() {
            let number = |key: &str| class[key].as_u64().unwrap_or(0);
            let (circuits, requests) = (number("circuits"), number("requests"));
            let row = format!("{:<24} {circuits:>10} {requests:>18}", text(&class["class"]));
            show::row(out, &row)?;
        }
        let reasons = report["reasons"].as_array().into_iter().flatten();
        let reasons: Vec<_> = reasons.filter(|reason| reason[1] != 0).collect();
        if reasons.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        show::head(out, &format!("{:<24} {:>10}", "REASON", "CIRCUITS"))?;
        for reason in reasons {
            let count = reason[1].as_u64().unwrap_or(0);
            show::row(out, &format!("{:<24} {count:>10}", text(&reason[0])))?;
        }
        Ok(())
    })
}

fn asked(asked: &Value) -> String {
    match asked["stages"].as_u64().unwrap_or(0) {
        0 => "nothing".to_owned(),
        stages => {
            let hard = if asked["hard"] == true { " of a stricter kind" } else { "" };
            format!("{stages} challenge(s){hard}")
        }
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
