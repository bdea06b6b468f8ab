//! The moving kind: browsers play it, and what flattening programs see never shows.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fortify_captcha::{Answer, AnswerMode, Carrier, Variant};
use fortify_e2e::{Kind, Options};
use serde_json::json;

use crate::kinds::{FAILURE, border, draw, record};
use crate::visit::{Outcome, Visit, listen, picture_file};

/// Different shots of one animation that are looked at, and seconds that they may take.
const SHOTS: usize = 6;
const WITHIN_SECONDS: u64 = 20;

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
    for variant in [Variant::DistortedText, Variant::Arithmetic] {
        visit =
            visit.move_on(|parts| draw(parts, variant, Carrier::Motion, AnswerMode::Typed)).await?;
        visit.open("/articles/2").await?;
        let kept = record(&visit).await?;
        let source = visit.browser.attribute("img", "src").await?.unwrap();
        let picture = STANDARD.decode(source.trim_start_matches("data:image/png;base64,")).unwrap();
        let decoy = Cells::read(&picture);
        assert_plays(&visit, "img", &decoy, &format!("moving-{variant}-{kind:?}")).await?;

        let decoy = Answer::decode(kept.decoy.expect("a decoy").expose()).unwrap().reveal();
        visit.answer(&decoy).await?;
        visit.challenge().await?;
        assert_eq!(visit.browser.text("[role=alert]").await?, FAILURE);
        assert!(visit.bed.site.seen().is_empty(), "the backend saw a program");
        visit.solve("article").await?;
    }
    visit.end().await
}

/// As a service behind the gate shows it on a page of its own, in an `<img>` and in a button; and
/// beside it the decoy as a plain picture, which has to be seen as what it is.
async fn it_plays_and_never_shows_the_decoy_at_its_address(kind: Kind) -> Outcome {
    let shown: Arc<OnceLock<(String, Vec<u8>)>> = Arc::default();
    let (page, plain) = (shown.clone(), shown.clone());
    let site = Router::new()
        .route("/", get(async move || Html(page.get().unwrap().0.clone())))
        .route("/decoy.png", get(async move || plain.get().unwrap().1.clone()));
    let site = listen(site).await;
    let visit = Visit::with(kind, Options::default(), |parts| {
        draw(parts, Variant::DistortedText, Carrier::Motion, AnswerMode::Typed);
        parts.config.upstream.authority = Some(site.to_string().parse().unwrap());
    })
    .await?;
    let issued = visit.bed.visitor().post_json("/captcha/generate", &json!({})).await.json();
    let address = issued["image"].as_str().unwrap();
    let picture = visit.bed.visitor().get(address).await.body;
    let decoy = Cells::read(&picture);
    let page = format!(
        "<!doctype html><title>Four</title><style>img,input{{display:block;margin:0 0 1em;\
         width:384px;height:132px;image-rendering:pixelated}}</style><form>\
         <img id=decoy src=/decoy.png><img id=img src={address}>\
         <input id=button type=image src={address}>\
         <input id=data type=image src='data:image/png;base64,{}'></form>",
        STANDARD.encode(&picture)
    );
    shown.set((page, decoy.plain())).unwrap();

    visit.open("/").await?;
    visit.solve("#data").await?;
    let control = visit.browser.screenshot_of("#decoy").await?;
    let likeness = Cells::sample(&control, 0.0, &decoy).correlation(&decoy);
    assert!(likeness > SAME, "the measure does not see a decoy: {likeness}");
    for css in ["#img", "#button", "#data"] {
        assert_plays(&visit, css, &decoy, &format!("moving-{}-{kind:?}", &css[1..])).await?;
    }
    visit.take_picture(&format!("moving-{kind:?}")).await?;
    visit.end().await
}

/// Looks at an animation until it has been seen in several states, none of them the decoy.
async fn assert_plays(visit: &Visit, css: &str, decoy: &Cells, name: &str) -> Outcome {
    let border = border(visit, css).await?;
    let started = Instant::now();
    let mut seen: Vec<Cells> = Vec::new();
    while seen.len() < SHOTS {
        let waited = started.elapsed().as_secs();
        assert!(waited < WITHIN_SECONDS, "{css}: {} states in {waited} s", seen.len());
        let png = visit.browser.screenshot_of(css).await?;
        let shot = Cells::sample(&png, border, decoy);
        assert!(shot.spread() > 10.0, "{css} shows nothing");
        let likeness = shot.correlation(decoy);
        assert!(likeness.abs() < UNRELATED, "{css} shows the decoy: {likeness}");
        if seen.iter().all(|other| shot.correlation(other) < SAME) {
            std::fs::write(picture_file(&format!("{name}-{}", seen.len())), &png).unwrap();
            seen.push(shot);
        }
    }
    Ok(())
}

/// How bright each cell of a picture is, 0 to 255.
struct Cells {
    width: usize,
    height: usize,
    cells: Vec<f64>,
}

impl Cells {
    /// The default image of a PNG, a cell for each px: an animation is not looked at.
    fn read(png: &[u8]) -> Self {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        let channels = info.color_type.samples();
        let colours = channels.min(3);
        let brightness = |px: &[u8]| {
            let sum: u32 = px.iter().take(colours).map(|channel| u32::from(*channel)).sum();
            f64::from(sum) / colours as f64
        };
        let cells = bytes[..info.buffer_size()].chunks_exact(channels).map(brightness).collect();
        Self { width: info.width as usize, height: info.height as usize, cells }
    }

    /// What a screenshot has at the middle of each of the cells of `like`.
    fn sample(png: &[u8], border: f64, like: &Self) -> Self {
        let shot = Self::read(png);
        let middle = |cell: usize, cells: usize, px: usize| {
            let inner = px as f64 - 2.0 * border;
            (border + (cell as f64 + 0.5) * inner / cells as f64) as usize
        };
        let cells = (0..like.height)
            .flat_map(|y| (0..like.width).map(move |x| (x, y)))
            .map(|(x, y)| {
                let y = middle(y, like.height, shot.height);
                shot.cells[y * shot.width + middle(x, like.width, shot.width)]
            })
            .collect();
        Self { width: like.width, height: like.height, cells }
    }

    /// The same as a picture without an animation.
    fn plain(&self) -> Vec<u8> {
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Grayscale);
        let mut writer = encoder.write_header().unwrap();
        let bytes: Vec<u8> = self.cells.iter().map(|cell| cell.round() as u8).collect();
        writer.write_image_data(&bytes).unwrap();
        writer.finish().unwrap();
        png
    }

    fn mean(&self) -> f64 {
        self.cells.iter().sum::<f64>() / self.cells.len() as f64
    }

    /// Standard deviation.
    fn spread(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.cells.iter().map(|cell| (cell - mean).powi(2)).sum();
        (squares / self.cells.len() as f64).sqrt()
    }

    /// 1 for the same picture, whatever its two colours; 0 for an unrelated one.
    fn correlation(&self, other: &Self) -> f64 {
        let (mean, other_mean) = (self.mean(), other.mean());
        let pairs = self.cells.iter().zip(&other.cells);
        let sum: f64 = pairs.map(|(one, two)| (one - mean) * (two - other_mean)).sum();
        sum / self.cells.len() as f64 / (self.spread() * other.spread())
    }
}
