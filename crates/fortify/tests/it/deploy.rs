//! What is shipped in `deploy/`, read by the programs that it is for.

use std::fs;
use std::path::{Path, PathBuf};

use fortify_testkit::servers::{check, command, deploy, free_address, haproxy_config};

#[test]
fn nginx_reads_its_configuration_as_it_is_installed() {
    // A folder that only has what an operator copies, and no server at the places named.
    let folder = tempfile::tempdir().unwrap();
    let places = folder.path().join("nginx-places");
    fs::create_dir(&places).unwrap();
    fs::copy(deploy("nginx.conf"), folder.path().join("nginx.conf")).unwrap();
    for name in ["main.conf", "http.conf", "server.conf"] {
        fs::copy(deploy("nginx-places").join(name), places.join(name)).unwrap();
    }
    // Where a port is taken, binding it fails: ours is another.
    let own = fs::read_to_string(places.join("server.conf")).unwrap();
    let own = own.replace("127.0.0.1:10001", &free_address().to_string());
    fs::write(places.join("server.conf"), own).unwrap();
    let pid = format!("pid {};", folder.path().join("pid").display());
    check(
        command("nginx")
            .args(["-t", "-q", "-e", "stderr", "-g", &pid, "-c"])
            .arg(folder.path().join("nginx.conf")),
    );
}

#[test]
fn haproxy_reads_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    check(
        command("haproxy")
            .args(["-c", "-f"])
            .arg(haproxy_config())
            .env("FORTIFY_STATS_SOCKET", socket),
    );
}

#[test]
fn tor_reads_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (data, site) = (folder.path().join("data"), folder.path().join("site"));
    let torrc = fs::read_to_string(deploy("torrc")).unwrap();
    // A check looks at the folders, which belong to tor's user where it is installed.
    let torrc = torrc
        .replace("/var/lib/tor/site", site.to_str().unwrap())
        .replace("DataDirectory /var/lib/tor", &format!("DataDirectory {}", data.display()))
        .replace("Log notice syslog", "Log warn stdout");
    let file = folder.path().join("torrc");
    fs::write(&file, torrc).unwrap();
    let said = check(
        command("tor").args(["--verify-config", "--defaults-torrc", "/dev/null", "-f"]).arg(file),
    );
    assert!(said.contains("Configuration was valid"), "{said}");
    for line in said.lines().filter(|line| line.contains("[warn]")) {
        assert!(
            line.contains("running Tor as root") || line.contains("Fixing permissions"),
            "{line}"
        );
    }
}

#[test]
fn every_torrc_limits_the_streams_of_a_circuit() {
    let mut found = 0;
    for file in ["deploy/torrc", "README.md", "docs/install.md", "docs/operator-guide.md"] {
        let text = fs::read_to_string(deploy("..").join(file)).unwrap();
        // The lines of one service are together.
        for (at, _) in text.match_indices("HiddenServicePort 80") {
            let end = text[at..].find("\n```\n").map_or(text.len(), |length| at + length);
            let service = &text[at..end];
            for line in ["HiddenServiceMaxStreams 40", "HiddenServiceMaxStreamsCloseCircuit 0"] {
                assert!(service.contains(line), "{file}: {line} is missing in:\n{service}");
            }
            found += 1;
        }
    }
    assert!(found >= 4, "{found}");
}

#[test]
fn systemd_reads_the_units_and_what_is_added_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let units = folder.path();
    // Debian's units, which ours stand beside.
    for name in ["haproxy.service", "nginx.service", "tor@default.service"] {
        let installed = ["/lib/systemd/system", "/usr/lib/systemd/system"]
            .map(|folder| Path::new(folder).join(name))
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("{name} is not installed; run `make setup`"));
        fs::copy(installed, units.join(name)).unwrap();
    }
    let shipped = deploy("systemd");
    for entry in fs::read_dir(&shipped).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_dir() {
            fs::create_dir(units.join(name)).unwrap();
            let to = units.join(name).join("fortify.conf");
            fs::copy(path.join("fortify.conf"), to).unwrap();
        } else {
            let text = fs::read_to_string(&path).unwrap();
            // Where it is installed there is a program at this path.
            let text = text.replace("/usr/local/bin/fortify", env!("CARGO_BIN_EXE_fortify"));
            fs::write(units.join(name), text).unwrap();
        }
    }
    for name in [
        "fortify.service",
        "fortify.socket",
        "haproxy.service",
        "nginx.service",
        "tor@default.service",
    ] {
        let unit = units.join(name);
        let said = check(command("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
        let ours: Vec<_> = said.lines().filter(|line| line.contains("fortify")).collect();
        assert!(ours.is_empty(), "systemd complains about {name}: {ours:#?}");
    }
    // 0 is "nothing exposed" and 10 everything; --threshold is in tenths.
    let score = check(
        command("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
            .arg(units.join("fortify.service")),
    );
    println!("{}", score.lines().find(|line| line.contains("Overall exposure")).unwrap());
}

#[test]
fn the_package_has_everything_in_deploy_and_names_nothing_that_is_not_there() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table =
        fs::read_to_string(home.join("Cargo.toml")).unwrap().parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let sources = assets.iter().map(|asset| asset[0].as_str().unwrap());
    // What is under target is made by scripts/build-deb.sh.
    let patterns: Vec<_> = sources.filter(|source| !source.starts_with("target/")).collect();
    for pattern in &patterns {
        let (folder, name) = pattern.rsplit_once('/').unwrap();
        let names = fs::read_dir(home.join(folder)).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.any(|found| matches(name, &found)), "{pattern} is not there");
    }
    for file in files_below(&deploy("")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let folder = file.parent().unwrap().strip_prefix(deploy("..")).unwrap();
        let packaged = patterns.iter().any(|pattern| {
            let (of, names) = pattern.rsplit_once('/').unwrap();
            of == format!("../../{}", folder.display()) && matches(names, name)
        });
        // Scripts of the package itself; and the unit, with another path in it.
        let otherwise = folder.ends_with("debian") || name == "fortify.service";
        assert!(packaged || otherwise, "{} is not in the package", file.display());
    }
}

#[test]
fn the_shell_reads_the_scripts_of_the_package() {
    for name in ["postinst", "prerm", "postrm"] {
        check(command("sh").arg("-n").arg(deploy("debian").join(name)));
    }
}

/// Whether `name` is what `pattern` says, which has one star at most.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, after)) => name.starts_with(before) && name.ends_with(after),
        None => pattern == name,
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
