//! Writes labelled sets of other generators' pictures, for the lab:
//!
//! ```text
//! lab-peers DIR TUNING COUNT
//! ```
//!
//! Settings are those that a generator's own documentation shows, and the hardest that it offers.
//! The generators take their randomness from the system, so that sets differ from run to run. Level 5
//! is written down for all of them: answers may have one slip, as in Fortify's own levels 1 to 5.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use lab_peers::{Drawn, Result};

/// A generator with its setting, by name.
type Peer = (&'static str, fn() -> Result<Drawn>);

const PEERS: [Peer; 7] = [
    ("captcha-readme", lab_peers::captcha_readme),
    ("captcha-six", lab_peers::captcha_six),
    ("captcha-rs-readme", || lab_peers::captcha_rs(130, 40, 5, 1)),
    ("captcha-rs-complexity-10", || lab_peers::captcha_rs(220, 80, 6, 10)),
    ("captcha_rust", || lab_peers::captcha_rust(130, 40, 5)),
    ("captcha-a-readme", || lab_peers::captcha_a(120, 40, 4)),
    ("captcha-a-large", || lab_peers::captcha_a(220, 80, 6)),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, tuning, count] = arguments.as_slice() else {
        return Err("lab-peers DIR TUNING COUNT".into());
    };
    for (name, draw) in PEERS {
        for (part, count) in [("tune", tuning.parse()?), ("test", count.parse()?)] {
            write(&Path::new(out).join(part).join(name), count, draw)?;
        }
    }
    Ok(())
}

fn write(folder: &Path, count: u32, draw: fn() -> Result<Drawn>) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut labels = "file,variant,level,mode,answer,question,carrier,alphabet\n".to_owned();
    for index in 0..count {
        let Drawn { answer, picture } = draw()?;
        // One of them writes JPEG; the readers look at the bytes, not at the name.
        let file = format!("{index:06}.png");
        let length = answer.chars().count();
        writeln!(
            labels,
            "{file},distorted_text,5,typed,{answer},Type the {length} characters,ink,any"
        )?;
        fs::write(folder.join(file), picture.into_bytes()?)?;
    }
    fs::write(folder.join("labels.csv"), labels)?;
    Ok(())
}
