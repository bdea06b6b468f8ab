//! Return addresses that lead elsewhere.
//!
//! Case 11. SECURITY.md: **Only same-site addresses are returned to**.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_11_a_right_answer_never_leads_to_another_site() {
    let test_gate = TestGate::start().await;
    for (address, expected) in [
        ("/articles/1?a=b", "/articles/1?a=b"),
        ("//evil", "/"),
        ("/\\evil", "/"),
        ("javascript:alert(1)", "/"),
        ("http://evil/", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("%2f%2fevil", "/"),
        ("/%2f%2fevil", "/%2f%2fevil"),
        ("", "/"),
    ] {
        let mut visitor = test_gate.visitor();
        let page = visitor.get("/").await;
        let token = page.field("token");
        let answer = test_gate.answer(&token).await;
        let sent = fields(&[("token", &token), ("answer", &answer), ("return_to", address)]);
        let reply = visitor.post_form("/validate-captcha", &sent).await;
        assert_eq!(reply.header("location"), Some(expected), "{address:?}");
        let to = percent_encoding::utf8_percent_encode(address, percent_encoding::NON_ALPHANUMERIC);
        let entered = visitor.get(&format!("/_fortify/enter?to={to}")).await;
        assert_eq!(entered.header("location"), Some(expected), "{address:?}");
    }
    let long = format!("/{}", "a".repeat(8 * 1024 - 100));
    assert_eq!(test_gate.visitor().get(&long).await.field("return_to"), "/");
}
