//! Conversations in files, and answers anew.

use super::chat;
use crate::models::Kind;
use crate::program::picture;
use std::fs;

const FLAGS: [&str; 3] = ["-n", "8", "-q"];

#[test]
fn a_loaded_conversation_goes_on_as_an_unbroken_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my talk");
    let (a, b) =
        (picture("saved a.png", 4, 4, [255, 0, 0, 255]), picture("saved b.png", 4, 4, [0, 0, 255, 255]));
    let begins = format!("'{}' One?\n'{}'\n", a.display(), b.display());
    let unbroken = chat(Kind::Random, &FLAGS, &format!("{begins}Two?\nThree?\n"));
    let answers: Vec<_> = unbroken.out.lines().collect();
    assert_eq!((unbroken.code, answers.len()), (Some(0), 3), "{unbroken:?}");

    let saved = chat(Kind::Random, &FLAGS[..2], &format!("{begins}/save {}\n", file.display()));
    let said: Vec<_> = saved.err.lines().collect();
    assert!(said[3].starts_with("saved ") && said[3].ends_with(" goes on from here"), "{said:#?}");

    // The picture that waited waits still, and nothing that was computed is computed again.
    let lines = format!("/load {}\nTwo?\n/stats\nThree?\n/images\n", file.display());
    let loaded = chat(Kind::Random, &FLAGS[..2], &lines);
    let said: Vec<_> = loaded.err.lines().collect();
    assert!(said[0].starts_with("loaded 1 question and 2 pictures; context "), "{said:#?}");
    assert_eq!(loaded.out.lines().collect::<Vec<_>>(), answers[1..], "{said:#?}");
    let last = said.iter().find_map(|line| line.strip_prefix("last answer   ")).unwrap();
    let n_reused = last.split("(+").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(n_reused > Some(16) && last.contains("encode "), "picture 2 alone is new: {said:#?}");
    let [.., third, first, second] = said.as_slice() else { panic!("{said:?}") };
    assert!(third.starts_with("random | ") && !third.contains("encode "), "{said:#?}");
    assert_eq!(*first, format!("Image-1: {} -> 112x112, 16 tokens, cached; question 1", a.display()));
    let start = format!("Image-2: {} -> 112x112, 16 tokens, looked at in ", b.display());
    assert!(second.starts_with(&start), "{said:#?}");

    // Of another model it is none, and the conversation goes on.
    let other = chat(Kind::Story, &["-q"], &format!("One?\n/load {}\nTwo?\n", file.display()));
    let expected =
        format!("owlet: {}: a conversation with another model, random; this one is story\n", file.display());
    assert_eq!((other.err, other.out.lines().count()), (expected, 2));
}

#[test]
fn exported_as_it_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let (markdown, json) = (dir.path().join("talk.md"), dir.path().join("talk.json"));
    let picture = picture("exported.png", 4, 4, [255; 4]);
    let lines = format!(
        "'{}' What is in it?\\\n圆?\n/export {}\n/export {}\n/export {}\n",
        picture.display(),
        markdown.display(),
        json.display(),
        json.display()
    );
    let ran = chat(Kind::Story, &["-q"], &lines);
    let expected = format!("owlet: {0}: exists; /export --force {0} replaces it\n", json.display());
    assert_eq!((ran.code, ran.err), (Some(1), expected));
    let text = fs::read_to_string(&markdown).unwrap();
    let expected = format!(
        "# A conversation with story\n\n**You**\n\n![Image-1](<{}>)\n\nWhat is in it?\n圆?\n\n**story**\n\nA red circle,圆.\n",
        picture.display()
    );
    assert_eq!(text, expected);
    let value: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(value["messages"][0]["text"], "What is in it?\n圆?");
    assert_eq!(value["messages"][0]["pictures"][0]["number"], 1);
    assert_eq!(value["messages"][1]["text"], "A red circle,圆.");
}

#[test]
fn an_answer_anew() {
    let greedy = chat(Kind::Random, &["-n", "8"], "One?\n/regen\n");
    let answers: Vec<_> = greedy.out.lines().collect();
    assert!(answers.len() == 2 && answers[0] == answers[1], "{answers:?}");
    assert!(greedy.err.ends_with("/set temperature 0.7 lets answers differ\n"), "{}", greedy.err);

    let lines = "One?\n/regen\nTwo?\n";
    let daring = chat(Kind::Random, &["-n", "8", "-q", "--temp", "1", "--seed", "1"], lines);
    let answers: Vec<_> = daring.out.lines().collect();
    assert!(answers.len() == 3 && answers[0] != answers[1], "{answers:?}");
    // It took the place of the first one.
    let next = chat(Kind::Random, &["-n", "8", "-q", "--temp", "1", "--seed", "2"], "One?\nTwo?\n");
    assert_eq!(next.out.lines().collect::<Vec<_>>(), answers[1..]);
}
