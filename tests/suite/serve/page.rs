//! The page at `/`, as bytes: tests/page uses it in a browser.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{Server, base64};
use crate::models::Kind;

/// What stands between `from` and `to`, which occur once.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let mut parts = text.split(from);
    let (_, inside) = (parts.next(), parts.next().expect(from));
    assert!(parts.next().is_none(), "{from} occurs twice");
    inside.split(to).next().unwrap()
}

#[test]
fn one_file_that_runs_its_own_script_alone() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    std::fs::write(&keys, "phone-0123456789\n").unwrap();
    // Whoever has no key may have the page, which asks for it.
    let server = Server::start(Kind::Story, &["--api-keys", keys.to_str().unwrap()]);
    let reply = server.get("/", &[]);
    assert_eq!((reply.status, &reply.headers["content-type"][..]), (200, "text/html; charset=utf-8"));
    let page = &reply.body;
    let policy = &reply.headers["content-security-policy"];
    for (element, directive) in [("script type=\"module\"", "script-src"), ("style", "style-src")] {
        let name = element.split(' ').next().unwrap();
        let inside = between(page, &format!("<{element}>"), &format!("</{name}>"));
        assert!(inside.len() > 1000, "{element} is there: {}", inside.len());
        let digest = base64(&Sha256::digest(inside));
        assert!(policy.contains(&format!("{directive} 'sha256-{digest}';")), "{directive}: {policy}");
    }
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    // The one address in it is a name: of the pictures' language in its icon.
    let addresses: BTreeSet<_> = page.split("://").skip(1).map(|rest| &rest[..10]).collect();
    assert_eq!(addresses, BTreeSet::from(["www.w3.org"]));
}

/// Each language says everything, with the same values in it, and whatever the frame names is said.
#[test]
fn it_says_everything_in_each_language() {
    let server = Server::start(Kind::Story, &[]);
    let page = server.get("/", &[]).body;
    let words = between(&page, "const WORDS = {", "\n};");
    let languages: Vec<BTreeSet<_>> = words
        .split("\n  },")
        .filter(|part| part.contains(": {\n"))
        .map(|part| {
            let entries = part.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(": "));
            entries
                .map(|(name, text)| {
                    let values: BTreeSet<_> =
                        text.split('{').skip(1).map(|rest| rest.split('}').next()).collect();
                    (name, values)
                })
                .collect()
        })
        .collect();
    assert_eq!(languages.len(), 2);
    assert!(languages[0].len() > 60, "{}", languages[0].len());
    assert_eq!(languages[0], languages[1]);
    let said: BTreeSet<_> = languages[0].iter().map(|(name, _)| *name).collect();
    for attribute in ["data-say=\"", "data-label=\"", "data-hint=\"", "say(\""] {
        for name in page.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(said.contains(name), "{attribute}{name}");
        }
    }
}
