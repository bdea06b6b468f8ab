//! Headers, forms and languages that no browser sends.
//!
//! Case 24. SECURITY.md, threat model: a bot over Tor (bounds on everything).

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_odd_input_gets_a_clean_4xx() {
    let test_gate = TestGate::start().await;
    let own = format!("http://{}", test_gate.address);
    let many: String = (0..100_000).map(|i| format!("f{i}=1&")).collect();
    let large = format!("token=a&answer={}", "x".repeat(1 << 20));
    let odd_fields = (0..300).map(|i| format!("f{i}=1")).collect::<Vec<_>>().join("&");
    let forms: [(&str, &str, u16); 9] = [
        ("1 MiB", &large, 413),
        ("100,000 fields", &many, 413),
        ("300 fields", &odd_fields, 400),
        ("nothing", "", 400),
        ("no answer", "token=abc", 400),
        ("a field twice", "token=a&token=b&answer=c", 400),
        ("invalid UTF-8", "token=a&answer=%ff%fe", 400),
        ("a NUL", "token=a&answer=%00", 400),
        ("no form", "{\"token\":1}", 400),
    ];
    for (name, body, status) in forms {
        let reply =
            test_gate.visitor().post_body("/validate-captcha", body, &[("origin", &own)]).await;
        assert_eq!(reply.status.as_u16(), status, "{name}");
        assert!(reply.text().contains("<h1>"), "{name} has no page");
    }
    let too_long = format!("{{\"challenge_id\":\"{}\",\"solution\":\"x\"}}", "a".repeat(5000));
    for (name, body, status) in [
        ("too long", too_long.as_str(), 413),
        ("nothing", "", 400),
        ("not JSON", "{", 400),
        ("a field twice", r#"{"challenge_id":"a","challenge_id":"b","solution":"c"}"#, 400),
        ("a field more", r#"{"challenge_id":"a","solution":"c","x":1}"#, 400),
        ("a number", r#"{"challenge_id":1,"solution":"c"}"#, 400),
        ("a lone surrogate", r#"{"challenge_id":"\ud800","solution":"c"}"#, 400),
        ("depth", &"[".repeat(4000), 400),
    ] {
        let headers = [("content-type", "application/json")];
        let reply = test_gate.visitor().post_body("/verify-captcha", body, &headers).await;
        assert_eq!(reply.status.as_u16(), status, "{name}");
        assert_eq!(reply.json()["success"], false, "{name}");
    }
    let wrong_type = test_gate.visitor().post_body("/verify-captcha", "{}", &[]).await;
    assert_eq!(wrong_type.status, StatusCode::BAD_REQUEST);
    let languages: String = (0..2_000).map(|i| format!("x{i},")).collect();
    for language in ["und", "*", ",,;q=", &languages] {
        let reply = test_gate.visitor().get_with("/", &[("accept-language", language)]).await;
        assert!(reply.text().contains("lang=\"en\""), "{language:.20}");
    }
    let chosen = serde_json::json!({"level": 1});
    let generate = test_gate.visitor().post_json("/captcha/generate", &chosen).await;
    assert_eq!(generate.status, StatusCode::BAD_REQUEST, "the visitor chose the level");
    assert!(test_gate.site.seen().is_empty());
}
