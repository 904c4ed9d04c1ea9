use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::plan::{PlanInfo, SwitchMode};

fn name(text: &str) -> PlanName {
    text.parse().unwrap()
}

fn plan(text: &str, height: Height) -> Plan {
    Plan {
        name: name(text),
        height,
        info: PlanInfo::default(),
        switch: SwitchMode::At,
        args: None,
        env: Default::default(),
        expect_version: None,
    }
}

/// One plan with `fields` beside its name and height.
fn with(fields: Value) -> Result<Plan, String> {
    let mut item = json!({"name": "v2", "height": 5});
    item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    one(&item.to_string())
}

fn one(text: &str) -> Result<Plan, String> {
    parse(text).map(|plans| plans.into_iter().next().unwrap()).map_err(|error| error.to_string())
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_example_of_the_product_is_read() {
    let sum = "ab".repeat(32);
    let text = format!(
        r#"{{ "name": "v2.0.0", "height": 1500000,
          "info": {{ "description": "mended", "binaries": {{ "linux/amd64": "https://x/y" }},
                     "checksums": {{ "linux/amd64": "sha256:{sum}" }} }},
          "switch": "window:20", "args": ["--a", "b c"], "env": {{"K": "v"}}, "expect_version": "2.0" }}"#
    );
    let read = one(&text).unwrap();
    assert_eq!((read.name.as_str(), read.height), ("v2.0.0", 1_500_000));
    assert_eq!(read.info.description.as_deref(), Some("mended"));
    assert_eq!(read.info.binaries["linux/amd64"], "https://x/y");
    assert_eq!(read.info.checksums["linux/amd64"], format!("sha256:{sum}"));
    assert_eq!(read.switch, SwitchMode::Window(20));
    assert_eq!(read.args, Some(vec!["--a".into(), "b c".into()]));
    assert_eq!(read.env["K"], "v");
    assert_eq!(read.expect_version.as_deref(), Some("2.0"));
}

#[test]
fn the_least_plan_and_the_empty_list_are_read() {
    assert_eq!(parse(r#"{"name":"v2","height":5}"#), Ok(vec![plan("v2", 5)]));
    assert_eq!(parse(" [ ] \n"), Ok(vec![]));
    assert_eq!(parse("\u{feff}[]"), Ok(vec![]));
    assert_eq!(
        parse(r#"[{"name":"b","height":"9"},{"name":"a","height":3}]"#),
        Ok(vec![plan("a", 3), plan("b", 9)])
    );
    let nothing = json!({"info":null,"switch":null,"args":null,"env":null,"expect_version":"","checksum":null,"binaries":" "});
    assert_eq!(with(nothing), Ok(plan("v2", 5)));
}

#[test]
fn a_height_is_a_number_or_a_text_of_digits() {
    for height in [json!(5), json!("5"), json!(" 005 ")] {
        assert_eq!(with(json!({"height": height})).unwrap().height, 5);
    }
    assert_eq!(with(json!({"height": i64::MAX})).unwrap().height, MAX_PLAN_HEIGHT);
    for height in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!(5.0),
        json!(1e30),
        json!(1u64 << 63),
        json!("0"),
        json!("+5"),
        json!("-5"),
        json!("0x5"),
        json!("5 5"),
        json!("1_000"),
        json!("٣"),
        json!(""),
        json!("99999999999999999999"),
    ] {
        let said = with(json!({"height": height})).unwrap_err();
        assert!(said.starts_with("the plan \"v2\": `height` is "), "{height}: {said}");
        assert!(said.contains("from 1 to 9223372036854775807"), "{height}: {said}");
    }
    assert!(with(json!({"height": -7})).unwrap_err().contains("`height` is -7,"));
    assert!(with(json!({"height": "x7"})).unwrap_err().contains("`height` is the text \"x7\","));
    assert_eq!(
        with(json!({"height": [5]})).unwrap_err(),
        "the plan \"v2\": `height` takes a number or a text of digits, not an array"
    );
}

#[test]
fn info_is_an_object_or_a_text_of_json_or_a_text() {
    let info =
        json!({"description": "d", "binaries": {"any": "https://x"}, "checksums": {"linux/amd64": "sha1:x"}});
    let as_object = with(json!({"info": info})).unwrap();
    let as_text = with(json!({"info": format!(" {info}")})).unwrap();
    assert_eq!(as_object, as_text);
    assert_eq!(as_object.info.checksums["linux/amd64"], "sha1:x");
    assert_eq!(with(json!({"info": "hello"})).unwrap().info.description.as_deref(), Some("hello"));
    assert_eq!(with(json!({"info": ""})).unwrap().info, PlanInfo::default());
    assert_eq!(with(json!({"description": "d", "info": {}})).unwrap().info.description.as_deref(), Some("d"));

    assert!(with(json!({"info": "{half"})).unwrap_err().contains("begins like a JSON object"));
    assert!(with(json!({"info": r#"{"a":1,"a":2}"#})).unwrap_err().contains("stands twice"));
    assert!(with(json!({"info": true})).unwrap_err().ends_with("`info` takes an object or a text, not true"));
    assert!(
        with(json!({"info": {"description": 5}}))
            .unwrap_err()
            .contains("`info.description` takes a text, not 5")
    );
    assert!(
        with(json!({"info": {"binaries": {"any": null}}})).unwrap_err().contains("`info.binaries.any` takes")
    );
}

#[test]
fn one_checksum_stands_for_any_platform() {
    let (short, long) = ("Ab".repeat(32), "cD".repeat(64));
    for text in [short.clone(), format!("sha256:{short}"), format!(" SHA256:{short} ")] {
        for fields in
            [json!({"checksum": text}), json!({"info": {"checksum": text}}), json!({"checksums": text})]
        {
            let read = with(fields).unwrap();
            assert_eq!(read.info.checksums, [("any".into(), format!("sha256:{}", "ab".repeat(32)))].into());
        }
    }
    let read = with(json!({"checksum": long, "binaries": "https://x"})).unwrap();
    assert_eq!(read.info.checksums["any"], format!("sha512:{}", "cd".repeat(64)));
    assert_eq!(read.info.binaries["any"], "https://x");
    assert_eq!(with(json!({"checksum": "sha256:Ab"})).unwrap().info.checksums["any"], "sha256:Ab");

    let twice = with(json!({"checksum": short, "info": {"checksum": short}})).unwrap();
    assert_eq!(twice.info.checksums.len(), 1);
    let said = with(json!({"checksum": short, "info": {"checksums": {"any": long}}})).unwrap_err();
    assert!(said.ends_with("there are two different values for `checksums` of any"), "{said}");
    let said = with(json!({"info": {"checksum": short, "checksums": {"any": long}}})).unwrap_err();
    assert!(said.ends_with("there are two different values for `checksums` of any"), "{said}");
    assert!(with(json!({"checksum": 5})).unwrap_err().contains("`checksum` takes a text, or"));
    assert!(with(json!({"checksums": {"any": " "}})).unwrap_err().contains("`checksums.any` takes a text"));
}

#[test]
fn what_a_field_does_not_take_is_refused_by_name() {
    for (fields, expected) in [
        (json!({"name": 5}), "the plan: `name` takes a text, not 5"),
        (json!({"name": null}), "the plan: the field `name` is missing"),
        (json!({"height": null}), "the plan \"v2\": the field `height` is missing"),
        (json!({"switch": "soon"}), "`switch`: \"soon\" is no switch mode"),
        (json!({"switch": 1}), "`switch` takes a text, not 1"),
        (json!({"args": "--a"}), "`args` takes null or an array of texts without NUL, not the text \"--a\""),
        (json!({"args": [1]}), "`args` takes null or an array of texts without NUL, not 1"),
        (json!({"args": ["a\0"]}), "`args` takes"),
        (json!({"env": []}), "`env` takes an object of texts without NUL, not an array"),
        (json!({"env": {"A": 5}}), "`env.A` takes a text without NUL, not 5"),
        (json!({"env": {"A": "\0"}}), "`env.A` takes"),
        (json!({"env": {"A=B": "x"}}), "`env` takes names that are not empty"),
        (json!({"env": {"": "x"}}), "`env` takes names"),
        (json!({"expect_version": {}}), "`expect_version` takes a text, not an object"),
        (json!({"switch": {"a": 1}}), "not an object"),
        (json!({"env": "x".repeat(61)}), "not a long text"),
    ] {
        let said = with(fields).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn bad_names_are_refused() {
    for bad in ["../../x", "a/b", "", ".x", "a\u{7}", "a\nb", "ünder", &"x".repeat(300)] {
        let said = with(json!({"name": bad})).unwrap_err();
        assert!(said.contains("`name`: an upgrade's name"), "{said}");
        assert!(!said.contains(char::is_control), "{said}");
    }
}

#[test]
fn what_is_no_plan_file_is_refused_with_its_place() {
    assert_eq!(parse(""), Err(PlanFileError::Empty));
    assert_eq!(parse("\u{feff} \n"), Err(PlanFileError::Empty));
    assert_eq!(refusal("{}"), "the plan: the field `name` is missing");
    assert_eq!(refusal("null"), "the plan file holds null, but it takes a plan or an array of plans");
    assert_eq!(refusal("5"), "the plan file holds 5, but it takes a plan or an array of plans");
    assert!(refusal("\"x\"").starts_with("the plan file holds the text \"x\","));
    assert_eq!(refusal("[5]"), "plan 1 of the file: an object was expected, not 5");
    assert_eq!(
        refusal(r#"[{"name":"a","height":1},{"name":"b"}]"#),
        "plan 2 of the file (\"b\"): the field `height` is missing"
    );
    let half = parse("{\n  \"name\": \"v2\",\n  \"hei").unwrap_err();
    assert!(matches!(half, PlanFileError::Syntax { line: 3, column: 6, .. }), "{half:?}");
    assert_eq!(
        refusal("{\"height\":1,\n\"height\":2}"),
        "the plan file is not valid: line 2, column 8: the key \"height\" stands twice in one object"
    );
    assert!(refusal("{} x").contains("line 1, column 4: trailing characters"));
    assert!(matches!(parse(&"[".repeat(1000)), Err(PlanFileError::Syntax { .. })));
}

#[test]
fn the_size_is_limited() {
    let filled = |length: usize| format!("[]{}", " ".repeat(length - 2));
    assert_eq!(parse(&filled(MAX_PLAN_FILE)), Ok(vec![]));
    assert_eq!(parse(&filled(MAX_PLAN_FILE + 1)), Err(PlanFileError::TooLarge(MAX_PLAN_FILE + 1)));
    let mut great = plan("v2", 5);
    great.info.description = Some("x".repeat(MAX_PLAN_FILE));
    assert!(matches!(schedule(None, &great), Err(PlanFileError::TooLarge(_))));
}

#[test]
fn duplicates_are_refused() {
    let two = |a: &str, b: &str| refusal(&format!("[{a},{b}]"));
    assert_eq!(
        two(r#"{"name":"a","height":7}"#, r#"{"name":"b","height":"7"}"#),
        "the plans a and b are both at height 7"
    );
    assert_eq!(
        two(r#"{"name":"a","height":7}"#, r#"{"name":"a","height":8}"#),
        "the name a is used for two plans, at heights 7 and 8"
    );
    assert!(two(r#"{"name":"a","height":7}"#, r#"{"name":"a","height":7}"#).starts_with("the name a"));
    let other_case = r#"[{"name":"a","height":7},{"name":"A","height":8}]"#;
    assert_eq!(parse(other_case).unwrap().len(), 2);
}

#[test]
fn scheduling_into_nothing_writes_one_object() {
    let text = schedule(None, &plan("v2", 5)).unwrap();
    let written: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        written,
        json!({"name":"v2","height":5,"info":{},"switch":"at","args":null,"env":{},"expect_version":null})
    );
    assert!(text.starts_with("{\n  \"name\": \"v2\",\n  \"height\": 5,") && text.ends_with("}\n"), "{text}");
    assert_eq!(schedule(Some("[]"), &plan("v2", 5)).unwrap(), text);
    assert_eq!(schedule(Some(&text), &plan("v2", 5)).unwrap(), text);
}

#[test]
fn a_rewrite_keeps_what_it_does_not_understand() {
    let other = json!({"by": {"x": [1, 2.5, null]}, "height": "30", "name": "c", "info": "text"});
    let old = json!({"name": "b", "height": 20, "note": "mine", "checksum": "sha256:x", "description": "old",
                     "info": {"ticket": 7, "binaries": {"any": "https://x"}}});
    let text = json!([other, old]).to_string();

    let mut newer = plan("b", 40);
    newer.info.description = Some("new".into());
    let written: Value = serde_json::from_str(&schedule(Some(&text), &newer).unwrap()).unwrap();
    assert_eq!(written[0], other);
    assert_eq!(written[0].to_string(), other.to_string(), "the order of the fields stays");
    assert_eq!(
        written[1],
        json!({"name": "b", "height": 40, "info": {"ticket": 7, "description": "new"}, "switch": "at",
               "args": null, "env": {}, "expect_version": null, "note": "mine"})
    );

    let three: Value = serde_json::from_str(&schedule(Some(&text), &plan("a", 10)).unwrap()).unwrap();
    assert_eq!(three[0]["name"], "a");
    assert_eq!((&three[1], &three[2]), (&old, &other));

    let in_text = json!({"name": "b", "height": 20, "info": r#"{"ticket":7}"#}).to_string();
    let written: Value = serde_json::from_str(&schedule(Some(&in_text), &plan("b", 20)).unwrap()).unwrap();
    assert_eq!(written["info"], json!({"ticket": 7}));
    let of_words = json!({"name": "b", "height": 20, "info": "words"}).to_string();
    let written: Value = serde_json::from_str(&schedule(Some(&of_words), &plan("b", 20)).unwrap()).unwrap();
    assert_eq!(written["info"], json!({}));
}

#[test]
fn a_rewrite_refuses_what_it_would_break() {
    let text = r#"{"name":"a","height":7}"#;
    assert!(matches!(schedule(Some(text), &plan("b", 7)), Err(PlanFileError::SameHeight { height: 7, .. })));
    assert!(matches!(schedule(Some("half{"), &plan("b", 8)), Err(PlanFileError::Syntax { .. })));
    assert!(matches!(schedule(None, &plan("b", 0)), Err(PlanFileError::Plan { .. })));
    assert!(matches!(schedule(None, &plan("b", MAX_PLAN_HEIGHT + 1)), Err(PlanFileError::Plan { .. })));
    assert!(matches!(remove("half{", &name("b")), Err(PlanFileError::Syntax { .. })));
}

#[test]
fn removing_leaves_the_rest() {
    let text = r#"[{"name":"c","height":9,"x":1},{"name":"a","height":"7"},{"name":"b","height":8}]"#;
    assert_eq!(remove(text, &name("d")), Ok(None));
    let two = remove(text, &name("b")).unwrap().unwrap();
    assert_eq!(parse(&two), Ok(vec![plan("a", 7), plan("c", 9)]));
    let one = remove(&two, &name("a")).unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&one).unwrap(), json!({"name":"c","height":9,"x":1}));
    assert_eq!(remove(&one, &name("c")), Ok(Some("[]\n".into())));
}

prop_compose! {
    fn any_plan()(
        name in "[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,127}",
        height in 1..=MAX_PLAN_HEIGHT,
        description in proptest::option::of(".{0,40}"),
        binaries in proptest::collection::btree_map("[a-z0-9/]{1,12}", "https://[a-z.]{1,20}", 0..3),
        checksums in proptest::collection::btree_map("[a-z0-9/]{1,12}", "sha256:[0-9a-f]{64}", 0..3),
        switch in prop_oneof![
            Just(SwitchMode::At),
            Just(SwitchMode::Before),
            Just(SwitchMode::Halted),
            Just(SwitchMode::Manual),
            (1u64..).prop_map(SwitchMode::Window),
        ],
        args in proptest::option::of(proptest::collection::vec("[^\0]{0,12}", 0..4)),
        env in proptest::collection::btree_map("[^=\0]{1,8}", "[^\0]{0,12}", 0..3),
        expect_version in proptest::option::of(".{1,12}"),
    ) -> Plan {
        let info = PlanInfo { description, binaries, checksums };
        Plan { name: name.parse().unwrap(), height, info, switch, args, env, expect_version }
    }
}

#[test]
fn only_the_plan_that_was_carried_out_is_taken_off() {
    let text = r#"[{"name": "v2", "height": 10}, {"name": "v3", "height": 20}]"#;
    let name: PlanName = "v2".parse().unwrap();
    assert_eq!(remove_finished(text, &name, 11), Ok(None), "another one under the same name");
    let rest = remove_finished(text, &name, 10).unwrap().unwrap();
    assert_eq!(parse(&rest).unwrap()[0].name.as_str(), "v3");
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_json_is_too_strange(text in r#"[\[\]{}",:0-9a-z\\ ]{0,60}"#) {
        if let Ok(plans) = parse(&text) {
            prop_assert!(plans.iter().all(|plan| (1..=MAX_PLAN_HEIGHT).contains(&plan.height)));
        }
    }

    #[test]
    fn no_damage_is_too_strange(plan in any_plan(), at in 0usize..400, with in any::<char>()) {
        let mut chars: Vec<char> = schedule(None, &plan).unwrap().chars().collect();
        let at = at % chars.len();
        chars[at] = with;
        let _ = parse(&chars.iter().collect::<String>());
        let _ = parse(&chars[..at].iter().collect::<String>());
    }

    #[test]
    fn a_file_cut_short_is_never_a_plan(plan in any_plan(), at in 0usize..1000) {
        let text = schedule(None, &plan).unwrap();
        let text = text.trim_end();
        let cut: String = text.chars().take(at % text.chars().count()).collect();
        prop_assert!(parse(&cut).is_err());
    }

    #[test]
    fn what_is_scheduled_is_read_back(plan in any_plan()) {
        prop_assert_eq!(parse(&schedule(None, &plan).unwrap()), Ok(vec![plan]));
    }

    #[test]
    fn the_file_behaves_like_a_map(plans in proptest::collection::vec(any_plan(), 1..6), drop in any::<prop::sample::Index>()) {
        let mut text = None;
        let mut expected = std::collections::BTreeMap::new();
        for plan in &plans {
            match schedule(text.as_deref(), plan) {
                Ok(newer) => text = Some(newer),
                Err(PlanFileError::SameHeight { .. }) => continue,
                Err(other) => prop_assert!(false, "{other}"),
            }
            expected.insert(plan.name.clone(), plan.clone());
        }
        let mut rest: Vec<Plan> = expected.into_values().collect();
        rest.sort_by_key(|plan| plan.height);
        let text = text.unwrap();
        prop_assert_eq!(&parse(&text).unwrap(), &rest);
        let gone = rest.remove(drop.index(rest.len()));
        prop_assert_eq!(parse(&remove(&text, &gone.name).unwrap().unwrap()).unwrap(), rest);
    }
}
