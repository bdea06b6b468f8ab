//! A token or an answer that counts more than once, in another spelling, or for somebody else.
//!
//! Cases 1, 7 and 13. SECURITY.md: **No session without a right answer**.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_01_another_spelling_of_a_token_is_another_token() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    let page = visitor.get("/").await;
    let token = page.field("token");
    let answer = test_gate.answer(&token).await;
    let last = token.chars().last().unwrap();
    // 43 characters hold 258 bits, two more than the token: the last one has four spellings.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.find(last).unwrap();
    let twin = alphabet.chars().nth(index ^ 1).unwrap();
    let spellings = [
        format!("{}{twin}", &token[..42]),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}A"),
        token.to_lowercase(),
    ];
    for spelling in spellings {
        let reply = visitor
            .post_form("/validate-captcha", &fields(&[("token", &spelling), ("answer", &answer)]))
            .await;
        assert!(!reply.admits(), "{spelling}");
        let picture = visitor.get(&format!("/captcha/{}.png", spelling.replace(' ', "%20"))).await;
        assert_eq!(picture.status, StatusCode::NOT_FOUND);
    }
    assert!(test_gate.submit(&mut visitor, &page, &answer).await.admits(), "the token was spent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_07_of_64_simultaneous_right_answers_one_is_a_session() {
    let test_gate = TestGate::start().await;
    for _ in 0..5 {
        let page = test_gate.visitor().get("/").await;
        let token = page.field("token");
        let answer = test_gate.answer(&token).await;
        let barrier = Arc::new(tokio::sync::Barrier::new(64));
        let tries: Vec<_> = (0..64)
            .map(|_| {
                let (mut visitor, barrier) = (test_gate.visitor(), barrier.clone());
                let body = fields(&[("token", &token), ("answer", &answer)]);
                tokio::spawn(async move {
                    // The connection stands before the race begins.
                    visitor.get("/health").await;
                    barrier.wait().await;
                    visitor.post_form("/validate-captcha", &body).await.admits()
                })
            })
            .collect();
        let mut sessions = 0;
        for one in tries {
            sessions += usize::from(one.await.unwrap());
        }
        assert_eq!(sessions, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_13_a_challenge_is_answered_and_seen_by_its_own_circuit_alone() {
    let test_gate = circuit_bed().await;
    let mut visitor = test_gate.visitor().circuit(CIRCUIT);
    let mut stranger = test_gate.visitor().circuit("fc00:dead:beef:4dad::0:20");
    let page = visitor.get("/").await;
    let picture = format!("/captcha/{}.png", page.field("token"));
    assert_eq!(stranger.get(&picture).await.status, StatusCode::NOT_FOUND);
    assert_eq!(visitor.get(&picture).await.status, StatusCode::OK);
    // Each look is a drawing.
    for _ in 1..10 {
        assert_eq!(visitor.get(&picture).await.status, StatusCode::OK);
    }
    assert_eq!(visitor.get(&picture).await.status, StatusCode::TOO_MANY_REQUESTS);
    let answer = test_gate.answer(&page.field("token")).await;
    assert!(!test_gate.submit(&mut stranger, &page, &answer).await.admits());

    let page = visitor.get("/").await;
    assert!(test_gate.solve(&mut visitor, &page).await.admits());
}
