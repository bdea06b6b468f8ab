//! The moving kind: browsers play it, and what flattening programs see never shows.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fortify_captcha::{Answer, AnswerMode, Carrier, Variant};
use fortify_e2e::{BrowserError, Kind, Options};
use serde_json::json;

use crate::kinds::{FAILURE, border, draw, record};
use crate::visit::{Outcome, Visit, listen, picture_file};

/// Frames of one animation that have to be seen, and seconds that this may take on a busy machine.
const FRAMES: usize = 6;
const WITHIN_SECONDS: u64 = 180;

/// Correlation of two pictures, from which on they show the same, and up to which they have nothing
/// to do with each other.
const SAME: f64 = 0.95;
const UNRELATED: f64 = 0.25;

crate::in_both_browsers!(
    it_plays_and_never_shows_the_decoy_in_the_page,
    it_plays_and_never_shows_the_decoy_at_its_address,
);

/// As the challenge page has it, and what becomes of who read the decoy.
async fn it_plays_and_never_shows_the_decoy_in_the_page(kind: Kind) -> Outcome {
    let mut visit = Visit::start(kind).await?;
    for variant in Variant::ALL {
        visit =
            visit.move_on(|parts| draw(parts, variant, Carrier::Motion, AnswerMode::Typed)).await?;
        visit.open("/articles/2").await?;
        let kept = record(&visit).await?;
        let source = visit.browser.attribute("img", "src").await?.unwrap();
        let picture = STANDARD.decode(source.trim_start_matches("data:image/png;base64,")).unwrap();
        let animation = Animation::read(&picture);
        assert_plays(&visit, "img", &animation, &format!("moving-{variant}-{kind:?}")).await?;

        let decoy = Answer::decode(kept.decoy.expect("a decoy").expose()).unwrap().reveal();
        visit.answer(&decoy).await?;
        visit.challenge().await?;
        assert_eq!(visit.browser.text("[role=alert]").await?, FAILURE);
        assert!(visit.test_gate.site.seen().is_empty(), "the backend saw a program");
        visit.solve("article").await?;
    }
    visit.end().await
}

/// As a service behind the gate shows it on a page of its own, in an `<img>` and in a button; and
/// beside it the decoy as a plain picture, which has to be seen as what it is.
async fn it_plays_and_never_shows_the_decoy_at_its_address(kind: Kind) -> Outcome {
    // All four fit side by side: an animation may rest while it is out of sight.
    let options = Options { viewport: (1200, 800), ..Options::default() };
    let mut visit = Visit::with(kind, options, |_| {}).await?;
    for variant in Variant::ALL {
        // The page needs the address of a challenge, and its gate that of the page.
        let shown: Arc<OnceLock<(String, Vec<u8>)>> = Arc::default();
        let (page, still) = (shown.clone(), shown.clone());
        let site = Router::new()
            .route("/", get(async move || Html(page.get().unwrap().0.clone())))
            .route("/decoy.png", get(async move || still.get().unwrap().1.clone()));
        let site = listen(site).await;
        visit = visit
            .move_on(|parts| {
                draw(parts, variant, Carrier::Motion, AnswerMode::Typed);
                parts.service_at(site);
            })
            .await?;
        let issued =
            visit.test_gate.visitor().post_json("/captcha/generate", &json!({})).await.json();
        let address = issued["image"].as_str().unwrap();
        let picture = visit.test_gate.visitor().get(address).await.body;
        let animation = Animation::read(&picture);
        let page = format!(
            "<!doctype html><title>Four</title><style>img,input{{float:left;margin:0 1em 1em 0;\
             width:{}px;height:{}px;image-rendering:pixelated}}</style><form>\
             <img id=decoy src=/decoy.png><img id=img src={address}>\
             <input id=button type=image src={address}>\
             <input id=data type=image src='data:image/png;base64,{}'></form>",
            3 * animation.width,
            3 * animation.height(),
            STANDARD.encode(&picture)
        );
        shown.set((page, still_of(&picture))).unwrap();

        visit.open("/").await?;
        visit.solve("#data").await?;
        for picture in ["#decoy", "#img"] {
            let width = visit.browser.number(picture, "naturalWidth").await?;
            assert!(width > 0.0, "{variant}: {picture} has not been decoded");
        }
        let control = painted(&visit, "#decoy", &animation, 0.0).await?;
        let likeness = correlation(&animation.sample(&control, 0.0), &animation.decoy);
        assert!(likeness > SAME, "{variant}: the measure does not see a decoy: {likeness}");
        for css in ["#img", "#button", "#data"] {
            let name = format!("moving-{variant}-{}-{kind:?}", &css[1..]);
            assert_plays(&visit, css, &animation, &name).await?;
        }
        visit.take_picture(&format!("moving-{variant}-{kind:?}")).await?;
    }
    visit.end().await
}

/// Looks at an animation until several of its frames have been seen, and never the decoy.
async fn assert_plays(visit: &Visit, css: &str, animation: &Animation, name: &str) -> Outcome {
    let border = border(visit, css).await?;
    painted(visit, css, animation, border).await?;
    let started = Instant::now();
    let mut seen = BTreeSet::new();
    while seen.len() < FRAMES {
        let waited = started.elapsed().as_secs();
        assert!(waited < WITHIN_SECONDS, "{name}: frames {seen:?} in {waited} s");
        let png = visit.browser.screenshot_of(css).await?;
        let shot = animation.sample(&png, border);
        let likeness = correlation(&shot, &animation.decoy);
        assert!(likeness.abs() < UNRELATED, "{name} shows the decoy: {likeness}");
        let frame = animation.frames.iter().position(|frame| correlation(&shot, frame) > SAME);
        if let Some(frame) = frame.filter(|frame| seen.insert(*frame)) {
            std::fs::write(picture_file(&format!("{name}-{frame}")), &png).unwrap();
        }
    }
    Ok(())
}

/// What an element shows once there is something to see: a picture that has loaded is painted later.
async fn painted(
    visit: &Visit,
    css: &str,
    animation: &Animation,
    border: f64,
) -> Result<Vec<u8>, BrowserError> {
    // Where nothing is painted, no cell differs from its neighbours.
    let shows = |png: &[u8]| animation.sample(png, border).iter().any(|cell| *cell != 0.0);
    visit.browser.see(css, "to be painted (its place is plain)", shows).await
}

/// What can tell the decoy from the frames: of every image, the cells that move, each as how much
/// brighter it is than the others of its row.
///
/// What stands still is plain, and much the same in the decoy; so are the colours of bands.
struct Animation {
    width: usize,
    /// Whether a cell is not the same in all frames.
    moves: Vec<bool>,
    decoy: Vec<f64>,
    frames: Vec<Vec<f64>>,
}

impl Animation {
    fn read(png: &[u8]) -> Self {
        let (width, images) = brightness(png);
        let (decoy, frames) = images.split_first().unwrap();
        let moves = (0..decoy.len()).map(|cell| frames.iter().any(|f| f[cell] != frames[0][cell]));
        let mut animation =
            Self { width, moves: moves.collect(), decoy: Vec::new(), frames: Vec::new() };
        animation.decoy = animation.moving(decoy);
        animation.frames = frames.iter().map(|frame| animation.moving(frame)).collect();
        animation
    }

    fn height(&self) -> usize {
        self.moves.len() / self.width
    }

    /// What a screenshot has at the middle of each cell.
    fn sample(&self, png: &[u8], border: f64) -> Vec<f64> {
        let (shot_width, images) = brightness(png);
        let (shot, height) = (&images[0], self.height());
        let middle = |cell: usize, cells: usize, px: usize| {
            let inner = px as f64 - 2.0 * border;
            (border + (cell as f64 + 0.5) * inner / cells as f64) as usize
        };
        let cells = (0..height).flat_map(|y| (0..self.width).map(move |x| (x, y))).map(|(x, y)| {
            let y = middle(y, height, shot.len() / shot_width);
            shot[y * shot_width + middle(x, self.width, shot_width)]
        });
        self.moving(&cells.collect::<Vec<_>>())
    }

    fn moving(&self, image: &[f64]) -> Vec<f64> {
        let rows = image.chunks_exact(self.width).zip(self.moves.chunks_exact(self.width));
        rows.flat_map(|(row, moves)| {
            let cells = row.iter().zip(moves).filter_map(|(cell, moves)| moves.then_some(*cell));
            let cells: Vec<f64> = cells.collect();
            let mean = cells.iter().sum::<f64>() / cells.len() as f64;
            cells.into_iter().map(move |cell| cell - mean)
        })
        .collect()
    }
}

/// 1 for the same cells, whatever their two colours; 0 for unrelated ones, and not a number if there
/// is nothing to see.
fn correlation(one: &[f64], other: &[f64]) -> f64 {
    let product = |one: &[f64], other: &[f64]| -> f64 {
        one.iter().zip(other).map(|(one, other)| one * other).sum()
    };
    product(one, other) / (product(one, one) * product(other, other)).sqrt()
}

/// The width of a PNG, and of its default image and of each frame how bright each px is, 0 to 255.
fn brightness(png: &[u8]) -> (usize, Vec<Vec<f64>>) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().unwrap();
    let frames = reader.info().animation_control().map_or(0, |control| control.num_frames);
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let images = (0..=frames).map(|_| {
        let info = reader.next_frame(&mut bytes).unwrap();
        let channels = info.color_type.samples();
        let colours = channels.min(3);
        let mean = |px: &[u8]| {
            px.iter().take(colours).map(|channel| f64::from(*channel)).sum::<f64>() / colours as f64
        };
        bytes[..info.buffer_size()].chunks_exact(channels).map(mean).collect()
    });
    let images = images.collect();
    (reader.info().width as usize, images)
}

/// The same file without its animation, which leaves the decoy.
fn still_of(png: &[u8]) -> Vec<u8> {
    let (signature, mut rest) = png.split_at(8);
    let mut still = signature.to_vec();
    while let Some(length) = rest.first_chunk() {
        // A chunk has its length, its name and a sum around what it holds.
        let (chunk, more) = rest.split_at(u32::from_be_bytes(*length) as usize + 12);
        if !matches!(&chunk[4..8], b"acTL" | b"fcTL" | b"fdAT") {
            still.extend_from_slice(chunk);
        }
        rest = more;
    }
    still
}
