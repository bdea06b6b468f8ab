//! The program as an operator starts it: exit codes, messages, signals.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fortify_testkit::program::{binary, config, fortify, listening, output, wait};
use rustix::process::{Pid, Signal, kill_process};

/// The one line that it said, and its exit code.
fn complaint(command: &mut Command) -> (String, i32) {
    let output = output(command);
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("fortify: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    (lines[0].to_owned(), output.status.code().unwrap())
}

/// Starts the gate and stops it again, so that it has its keys.
fn first_start(config: &str) {
    let mut child = fortify(&["serve", "--config", config]).stderr(Stdio::piped()).spawn().unwrap();
    listening(&mut BufReader::new(child.stderr.take().unwrap()));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    wait(&mut child);
}

#[test]
fn a_mistake_in_the_arguments_is_64_and_help_is_none() {
    for args in [&["serve", "--confg", "x"][..], &["render", "--count", "0"], &["nothing"], &[]] {
        assert_eq!(output(&mut fortify(args)).status.code(), Some(64), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["render", "--help"]] {
        assert_eq!(output(&mut fortify(args)).status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn too_few_open_files_are_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "");
    let start = "ulimit -n 300 && exec \"$0\" serve --config \"$1\"";
    let mut child = Command::new("/bin/sh")
        .args(["-c", start])
        .arg(binary())
        .arg(&path)
        .env_clear()
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut log, mut said) = (BufReader::new(child.stderr.take().unwrap()), String::new());
    while !said.contains("listening=") {
        assert!(log.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert!(said.contains("may open 300 files") && said.contains("LimitNOFILE="), "{said}");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(wait(&mut child), 0);
}

#[test]
fn an_environment_that_is_no_text_is_no_panic() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"\xff");
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "");
    let foreign = output(fortify(&["check-config", "--config", &path]).env("SOMETHING", odd));
    assert_eq!(foreign.status.code(), Some(0));
    let (message, code) =
        complaint(fortify(&["check-config", "--config", &path]).env("FORTIFY__LOG__LEVEL", odd));
    assert_eq!(code, 64);
    assert!(message.contains("FORTIFY__LOG__LEVEL"), "{message}");
}

#[test]
fn a_valid_configuration_is_said_to_be_valid() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fortify.toml");
    let output = output(&mut fortify(&["check-config", "--config", shipped]));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "the configuration is valid\n");
}

#[test]
fn a_mistake_in_the_configuration_is_64_before_anything_is_bound_or_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 10002\nprot = 1\n");
    for command in ["serve", "check-config"] {
        let (message, code) = complaint(&mut fortify(&[command, "--config", &path]));
        assert_eq!(code, 64);
        assert!(message.contains("fortify.toml:5: server.prot"), "{message}");
    }
    let path = config(dir.path(), "");
    let (message, code) = complaint(
        fortify(&["check-config", "--config", &path]).env("FORTIFY__CAPTCHA__LENGTH", "99"),
    );
    assert_eq!(code, 64);
    assert!(message.contains("FORTIFY__CAPTCHA__LENGTH"), "{message}");
    assert!(!dir.path().join("data").exists());
}

#[test]
fn a_port_that_is_taken_is_said_with_the_key_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let path = config(dir.path(), &format!("[server]\nport = {port}\n"));
    let (message, code) = complaint(&mut fortify(&["serve", "--config", &path]));
    assert_eq!(code, 1);
    assert!(message.contains(&port.to_string()) && message.contains("server.port"), "{message}");
}

#[test]
fn keys_that_others_may_read_stop_the_start_with_the_command_that_mends_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n");
    first_start(&path);
    let keys = dir.path().join("data/keys.json");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (message, code) = complaint(&mut fortify(&["serve", "--config", &path]));
    assert_eq!(code, 1);
    assert!(message.contains("chmod 600") && message.contains("keys.json"), "{message}");

    std::fs::remove_file(&keys).unwrap();
    std::fs::create_dir(&keys).unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (message, code) = complaint(&mut fortify(&["serve", "--config", &path]));
    assert_eq!(code, 1);
    assert!(message.contains("keys.json"), "{message}");
}

#[test]
fn a_data_folder_that_cannot_be_written_is_said_with_the_key_to_change() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), "a file where the folder should be").unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n");
    let (message, code) = complaint(&mut fortify(&["serve", "--config", &path]));
    assert_eq!(code, 1);
    assert!(message.contains("storage.data_dir"), "{message}");
}

#[test]
fn a_full_disk_is_said() {
    let dir = tempfile::tempdir().unwrap();
    // Every write to this device finds the disk full.
    std::os::unix::fs::symlink("/dev/full", dir.path().join("labels.csv")).unwrap();
    let out = dir.path().to_str().unwrap();
    let (message, code) = complaint(&mut fortify(&["render", "--count", "3", "--out", out]));
    assert_eq!(code, 1);
    assert!(message.contains("labels.csv") && message.contains("No space left"), "{message}");
    let closed = fortify(&["check-config", "--config", &config(dir.path(), "")])
        .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .status()
        .unwrap();
    assert!(!closed.success());
}

#[test]
fn keys_are_listed_and_rotated_without_being_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n");
    let (message, code) = complaint(&mut fortify(&["keys", "list", "--config", &path]));
    assert_eq!(code, 1);
    assert!(message.contains("first starts") && !dir.path().join("data").exists(), "{message}");
    first_start(&path);
    let run = |action| {
        let output = output(&mut fortify(&["keys", action, "--config", &path]));
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("list").lines().count(), 2);
    let style = run("style");
    assert!(
        style.trim_end().len() == 64 && style.trim_end().chars().all(|c| c.is_ascii_hexdigit())
    );
    let rotated = run("rotate");
    assert_eq!(run("style"), style, "pictures on their way are drawn again");
    assert_eq!(rotated.matches("signs").count(), 1);
    assert_eq!(rotated.matches("verifies").count(), 1);
    let file = std::fs::read_to_string(dir.path().join("data/keys.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&file).unwrap();
    for key in json["keys"].as_array().unwrap() {
        assert!(rotated.contains(key["id"].as_str().unwrap()));
        assert!(key.get("secret").is_none(), "derived from the root");
    }
    for secret in ["root", "pseudonym_key"] {
        assert!(!rotated.contains(json[secret].as_str().unwrap()));
    }
}

#[test]
fn a_gate_starts_answers_and_finishes_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n[security]\nidentity = \"peer\"\n");
    for signal in [Signal::TERM, Signal::INT] {
        let mut child =
            fortify(&["serve", "--config", &path]).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = listening(&mut log);
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut status = String::new();
        BufReader::new(&socket).read_line(&mut status).unwrap();
        assert_eq!(status.trim_end(), "HTTP/1.1 200 OK");
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).unwrap();
        assert_eq!(wait(&mut child), 0);
        let rest: Vec<_> = log.lines().map(Result::unwrap).collect();
        assert!(rest.iter().any(|line| line.contains("the gate is closed")), "{rest:?}");
    }
}

#[test]
fn a_running_gate_notices_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n[security]\nidentity = \"peer\"\n");
    let mut child = fortify(&["serve", "--config", &path]).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    listening(&mut log);
    assert!(output(&mut fortify(&["keys", "rotate", "--config", &path])).status.success());
    let noticed = log.lines().map_while(Result::ok).find(|line| line.contains("were rotated"));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(noticed.is_some());
    wait(&mut child);
}

#[test]
fn circuits_are_asked_for_by_address_in_the_file_of_a_gate() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n");
    let circuits = |args: &[&str]| {
        let mut command = fortify(&["circuits", "--config", &path]);
        command.args(args);
        command
    };
    let (message, code) = complaint(&mut circuits(&["list"]));
    assert_eq!(code, 1);
    assert!(message.contains("reputation.sqlite: is not there; start the gate once"), "{message}");
    first_start(&path);
    for address in ["25", "fc00:dead:beef::19", "127.0.0.1", "", "fc00:dead:beef:4dad::19;x"] {
        assert_eq!(output(&mut circuits(&["ban", address])).status.code(), Some(64), "{address}");
    }
    let address = "fc00:dead:beef:4dad::0:19";
    for seconds in ["0", "31536001", "x"] {
        let mut command = circuits(&["ban", address, "--seconds", seconds]);
        assert_eq!(output(&mut command).status.code(), Some(64));
    }
    // Without a gate that runs.
    assert!(output(&mut circuits(&["ban", address, "--seconds", "60"])).status.success());
    let said = output(&mut circuits(&["show", "fc00:dead:beef:4dad::19"])).stdout;
    assert!(String::from_utf8(said).unwrap().contains(" banned (operator), "));
    std::fs::write(dir.path().join("data/reputation.sqlite"), "no database at all").unwrap();
    let (message, code) = complaint(&mut circuits(&["list"]));
    assert_eq!(code, 1);
    assert!(message.contains("reputation.sqlite: is damaged"), "{message}");
}

#[test]
fn abuse_27_an_acknowledged_turn_of_the_dial_outlives_a_gate_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n");
    let run = |args: &[&str]| {
        let output = output(fortify(args).args(["--config", &path]).env("USER", "ada"));
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (message, code) = complaint(&mut fortify(&["dial", "get", "--config", &path]));
    assert_eq!(code, 1);
    assert!(message.contains("start the gate once"), "{message}");
    for level in ["7", "3", "9"] {
        let mut gate = fortify(&["serve", "--config", &path]);
        let mut gate = gate.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(gate.stderr.take().unwrap());
        listening(&mut log);
        assert!(run(&["dial", "set", level, "--reason", "a rush"]).0);
        // At once: what the gate has noticed of it does not matter.
        gate.kill().unwrap();
        wait(&mut gate);
        let (_, told) = run(&["dial", "get"]);
        assert!(told.starts_with(&format!("level {level}, auto, automatic control paused for ")));
    }
    let (_, rows) = run(&["audit", "--json", "--last", "2"]);
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let rows = rows["records"].as_array().unwrap();
    assert_eq!(
        (&rows[0]["from"], &rows[0]["to"], &rows[0]["by"]),
        (&3.into(), &9.into(), &"operator:ada by socket".into())
    );
    assert_eq!(rows.len(), 2);
    assert!(run(&["audit"]).1.contains("operator:ada"));

    assert!(run(&["dial", "pin", "1", "--reason", "a test"]).0);
    assert!(!run(&["dial", "set", "2", "--reason", "a test"]).0, "it is pinned");
    assert_eq!(run(&["dial", "auto"]), (true, "level 1, auto\n".to_owned()));
    for wrong in [&["dial", "set", "11", "--reason", "x"][..], &["dial", "set", "5"]] {
        assert_eq!(output(&mut fortify(wrong)).status.code(), Some(64), "{wrong:?}");
    }
}

#[test]
fn attacks_are_played_to_the_dial_and_drawn() {
    let told = output(&mut fortify(&["simulate", "--trace", "flood"]));
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.starts_with("Flood: from 2 to 8; 6 rises, 6 falls\n"), "{told}");
    assert_eq!(told.lines().count(), 62);
    let told = output(&mut fortify(&["simulate", "--trace", "one-loud", "--json"]));
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["highest"], &told["trace"]), (&2.into(), &"one-loud".into()));
}

/// Runs a command that reads `typed`, and gives what it wrote and its exit code.
fn typing(command: &mut Command, typed: &str) -> (String, i32) {
    let (input, error) = (Stdio::piped(), Stdio::piped());
    let mut child = command.stdin(input).stdout(Stdio::piped()).stderr(error).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    wait(&mut child);
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code().unwrap())
}

/// One request to the operators' port.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// Starts the gate with operators' pages, and gives what it says until they are served.
fn start_for_operators(gate: &mut Command) -> (Child, Box<dyn BufRead>, String) {
    gate.env("FORTIFY__ADMIN__LISTEN", "127.0.0.1:0").stdin(Stdio::null());
    let mut child = gate.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    // On a terminal both are one, which comes out of the standard output of the program that holds it.
    let on_terminal = gate.get_program() == "script";
    let mut log: Box<dyn BufRead> =
        if on_terminal { Box::new(BufReader::new(out)) } else { Box::new(BufReader::new(err)) };
    let mut said = String::new();
    while !said.contains("the admin interface is open") {
        assert!(log.read_line(&mut said).unwrap() > 0, "{said}");
    }
    (child, log, said)
}

fn stop_for_operators(mut child: Child, pid: Pid, mut log: Box<dyn BufRead>) -> String {
    kill_process(pid, Signal::TERM).unwrap();
    wait(&mut child);
    let mut rest = Vec::new();
    // A terminal whose last user is gone ends with an error.
    let _end = log.read_to_end(&mut rest);
    String::from_utf8_lossy(&rest).into_owned()
}

#[test]
fn a_first_start_that_nobody_watches_makes_no_setup_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n[log]\nlevel = \"trace\"\n");
    for start in 1..=2 {
        let (child, log, said) = start_for_operators(&mut fortify(&["serve", "--config", &path]));
        assert!(!said.contains("setup token"), "start {start}: {said}");
        let advice = "fortify: there is no account yet: create one with: fortify admin add";
        assert_eq!(said.matches(advice).count(), 1, "start {start}: {said}");
        let address = said.split("address=http://").nth(1).unwrap().lines().next().unwrap();
        let request =
            "GET /admin/api/v1/login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let before = ask(address.trim().parse().unwrap(), request);
        assert!(before.contains("\"awaits_setup\":false"), "{before}");
        let pid = Pid::from_child(&child);
        assert!(!stop_for_operators(child, pid, log).contains("setup token"));
    }
    let mut add = fortify(&["admin", "add", "ada", "--config", &path]);
    assert_eq!(typing(&mut add, "four plain words here\n").1, 0);
    let (child, log, said) = start_for_operators(&mut fortify(&["serve", "--config", &path]));
    assert!(!said.contains("no account yet"), "{said}");
    let pid = Pid::from_child(&child);
    stop_for_operators(child, pid, log);
}

#[test]
fn the_first_start_in_a_terminal_shows_a_setup_token_once_and_never_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n[log]\nlevel = \"trace\"\n");
    let start = || {
        let command =
            format!("echo pid $$; exec {} serve --config {path}", env!("CARGO_BIN_EXE_fortify"));
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--flush", "--command", &command, "/dev/null"]);
        let (child, log, said) = start_for_operators(&mut terminal);
        let pid = said.split("pid ").nth(1).unwrap().split_whitespace().next().unwrap();
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        (child, pid, log, said)
    };
    let (child, pid, log, said) = start();
    let shown: Vec<_> = said.lines().filter(|line| line.contains("setup token")).collect();
    assert_eq!(shown.len(), 1, "{said}");
    assert!(shown[0].starts_with("fortify: there is no account yet: open http://127.0.0.1:"));
    let token = shown[0].split("setup token ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(token.len() >= 32 && said.matches(token).count() == 1, "{said}");
    let address = said.split("there is no account yet: open http://").nth(1).unwrap();
    let address = address.split("/admin").next().unwrap();
    let body = format!(
        "{{\"token\":\"{token}\",\"name\":\"ada\",\"password\":\"four plain words here\"}}"
    );
    let head = "POST /admin/api/v1/setup HTTP/1.1\r\nhost: localhost\r\nconnection: close";
    let request = format!(
        "{head}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(address.parse().unwrap(), &request);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"role\":\"admin\""),
        "{answer}"
    );
    assert!(!stop_for_operators(child, pid, log).contains(token), "the token is in the log");
    let (child, pid, log, said) = start();
    assert!(!said.contains("setup token") && !said.contains("no account yet"), "{said}");
    stop_for_operators(child, pid, log);
}

#[test]
fn the_first_account_can_be_made_before_the_first_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n");
    let add = || fortify(&["admin", "add", "ada", "--config", &path]);
    let (said, code) = typing(&mut add(), "four plain words here\n");
    assert!(said.contains("start the gate once") && code == 1, "{said}");
    std::fs::create_dir(dir.path().join("data")).unwrap();
    assert_eq!(typing(&mut add(), "four plain words here\n"), ("ada is admin\n".into(), 0));
    let file = std::fs::metadata(dir.path().join("data/admin.sqlite")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let (child, log, said) = start_for_operators(&mut fortify(&["serve", "--config", &path]));
    assert!(!said.contains("no account yet"), "{said}");
    let pid = Pid::from_child(&child);
    stop_for_operators(child, pid, log);
}

#[test]
fn accounts_are_made_beside_a_running_gate_and_the_gate_is_asked_over_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n");
    let command = |args: &[&str]| {
        let mut command = fortify(args);
        command.args(["--config", &path]).env("USER", "ada");
        command
    };
    let (message, code) = complaint(&mut command(&["status"]));
    assert!(
        message.contains("cannot reach the gate") && message.contains("fortify serve"),
        "{message}"
    );
    assert_eq!(code, 1);
    let (message, _) = complaint(&mut command(&["admin", "list"]));
    assert!(message.contains("start the gate once"), "{message}");
    let mut gate = fortify(&["serve", "--config", &path]).stderr(Stdio::piped()).spawn().unwrap();
    listening(&mut BufReader::new(gate.stderr.take().unwrap()));
    let (said, code) = typing(&mut command(&["admin", "add", "ada"]), "short\n");
    assert!(said.contains("at least 12 characters") && code == 64, "{said}");
    let password = "four plain words here\n";
    assert_eq!(
        typing(&mut command(&["admin", "add", "ada"]), password),
        ("ada is admin\n".into(), 0)
    );
    let (said, code) = typing(&mut command(&["admin", "add", "ada"]), password);
    assert!(said.contains("already") && code == 1, "{said}");
    let (said, _) = typing(&mut command(&["admin", "add", "eve", "--role", "viewer"]), password);
    assert_eq!(said, "eve is viewer\n");
    for bad in [&["admin", "add", "E ve"][..], &["admin", "add", "x", "--role", "root"]] {
        assert_eq!(output(&mut command(bad)).status.code(), Some(64));
    }
    let (said, code) = typing(&mut command(&["admin", "passwd", "eve"]), "another four words\n");
    assert_eq!((said.as_str(), code), ("the password of eve is set; its sessions have ended\n", 0));
    assert_eq!(typing(&mut command(&["admin", "passwd", "bob"]), password).1, 1);
    let (secret, _) = typing(&mut command(&["admin", "totp", "ada"]), "");
    assert!(secret.contains("otpauth://totp/Fortify:ada?secret="), "{secret}");
    let token = ["admin", "token", "--role", "operator", "--label", "cron"];
    let (token, _) = typing(&mut command(&token), "");
    assert!(token.starts_with("fortify_"), "{token}");
    let (list, _) = typing(&mut command(&["admin", "list"]), "");
    for word in ["ada", "eve", "viewer", "yes", "operator", "89 days", "cron"] {
        assert!(list.contains(word), "{word}: {list}");
    }
    assert!(!list.contains(token.trim()) && !list.contains("argon2"));
    let (json, _) = typing(&mut command(&["admin", "list", "--json"]), "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let id = json["tokens"][0]["id"].as_str().unwrap();
    assert_eq!(typing(&mut command(&["admin", "revoke", id]), "").1, 0);
    assert!(typing(&mut command(&["admin", "remove", "ada"]), "").0.contains("last admin"));
    assert_eq!(typing(&mut command(&["admin", "remove", "eve"]), "").1, 0);
    let (status, _) = typing(&mut command(&["status", "--json"]), "");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["ready"], &status["banned"]), (&true.into(), &0.into()));
    assert!(typing(&mut command(&["status"]), "").0.contains("LEVEL            2, auto"));
    let circuit = "fc00:dead:beef:4dad::19";
    assert_eq!(output(&mut command(&["circuits", "ban", circuit])).status.code(), Some(0));
    let (said, _) = typing(&mut command(&["explain", circuit]), "");
    assert!(said.contains("WITHOUT SESSION  refuse"), "{said}");
    let (said, code) = typing(&mut command(&["explain", "nonsense"]), "");
    assert!(said.contains("32 hexadecimal digits") && code == 64, "{said}");
    kill_process(Pid::from_child(&gate), Signal::TERM).unwrap();
    wait(&mut gate);
}

mod as_root {
    use super::*;

    /// Only root can be somebody else; without it there is nobody to refuse.
    #[test]
    #[ignore = "needs root: make test runs it where it can"]
    fn a_stranger_at_the_operators_socket_is_refused_whatever_its_permissions() {
        use std::os::unix::fs::PermissionsExt as _;
        use std::os::unix::process::CommandExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = config(dir.path(), "[server]\nport = 0\n");
        let mut gate =
            fortify(&["serve", "--config", &path]).stderr(Stdio::piped()).spawn().unwrap();
        listening(&mut BufReader::new(gate.stderr.take().unwrap()));
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open(dir.path(), 0o755);
        open(&dir.path().join("data"), 0o755);
        open(&dir.path().join("data/admin.sock"), 0o666);
        let status = || fortify(&["status", "--config", &path]);
        assert_eq!(output(&mut status()).status.code(), Some(0));
        // A copy that nobody may run, wherever the build is.
        let program = dir.path().join("fortify");
        std::fs::copy(env!("CARGO_BIN_EXE_fortify"), &program).unwrap();
        open(&program, 0o755);
        open(Path::new(&path), 0o644);
        const NOBODY: u32 = 65_534;
        let mut stranger = Command::new(&program);
        stranger.args(["status", "--config", &path]).env_clear().uid(NOBODY).gid(NOBODY);
        let (message, code) = complaint(&mut stranger);
        assert!(
            message.contains("run this as root or as the user that runs the gate"),
            "{message}"
        );
        assert_eq!(code, 1);
        kill_process(Pid::from_child(&gate), Signal::TERM).unwrap();
        wait(&mut gate);
    }
}

#[test]
fn an_operators_address_that_is_taken_is_named_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "[server]\nport = 0\n");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut gate = fortify(&["serve", "--config", &path]);
    gate.env("FORTIFY__ADMIN__LISTEN", taken.local_addr().unwrap().to_string());
    let (message, code) = complaint(&mut gate);
    assert!(message.starts_with("fortify: admin.listen: 127.0.0.1:"), "{message}");
    assert!(message.contains("in use") && !message.contains("server."), "{message}");
    assert_eq!(code, 1);
}

#[test]
fn every_command_has_a_man_page_and_completions_that_the_shell_reads() {
    let dir = tempfile::tempdir().unwrap();
    let said = output(fortify(&["generate-docs"]).arg(dir.path()));
    assert!(said.status.success(), "{said:?}");
    let page = |name: &str| {
        let path = dir.path().join("man").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let main = page("fortify.1");
    assert!(main.contains(".SH \"EXIT STATUS\"") && main.contains("/etc/fortify/fortify.toml"));
    // Whatever the help names has a page of its own, and the man page names it too.
    let help = String::from_utf8(output(&mut fortify(&["help"])).stdout).unwrap();
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // Further lines of a description are indented further.
    let first = listed.lines().filter(|line| !line.starts_with("   "));
    let names: Vec<_> = first.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"serve"), "{help}");
    for name in names.iter().filter(|name| **name != "help") {
        assert!(page(&format!("fortify-{name}.1")).contains(".SH SYNOPSIS"), "{name}");
    }
    assert!(!help.contains("generate-docs"), "{help}");
    let completions = dir.path().join("completions");
    for name in ["fortify.bash", "_fortify", "fortify.fish"] {
        let text = std::fs::read_to_string(completions.join(name)).unwrap();
        assert!(text.contains("circuits"), "{name}");
    }
    // What bash offers for "fortify circuits b".
    let script = format!(
        "source {}; COMP_WORDS=(fortify circuits b); COMP_CWORD=2; _fortify fortify b circuits; \
         echo \"${{COMPREPLY[@]}}\"",
        completions.join("fortify.bash").display()
    );
    let offered = output(Command::new("bash").args(["-c", &script]));
    assert_eq!(String::from_utf8_lossy(&offered.stdout).trim(), "ban", "{offered:?}");
}
