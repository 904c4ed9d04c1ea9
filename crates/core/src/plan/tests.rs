use proptest::prelude::*;

use super::*;

#[test]
fn names_are_directory_names() {
    for good in ["v2.0.0", "a", "Mont-Blanc_2+rc.1", "-x", &"n".repeat(128)] {
        let name: PlanName = good.parse().unwrap();
        assert_eq!((name.as_str(), name.to_string().as_str()), (good, good));
    }
    assert_eq!("".parse::<PlanName>(), Err(BadName::Empty));
    assert_eq!(FIRST_PROGRAM.parse::<PlanName>(), Err(BadName::FirstProgram));
    assert_eq!("é".repeat(129).parse::<PlanName>(), Err(BadName::TooLong(129)));
    for dotted in [".", "..", ".x", "../../x"] {
        assert_eq!(dotted.parse::<PlanName>(), Err(BadName::LeadingDot(dotted.into())));
    }
    for (bad, c) in [("a/b", '/'), ("a b", ' '), ("a\0", '\0'), ("a\n", '\n'), ("é", 'é'), ("a\\b", '\\')] {
        assert_eq!(bad.parse::<PlanName>(), Err(BadName::Character(bad.into(), c)));
    }
}

#[test]
fn a_name_keeps_its_case_and_its_json_is_a_text() {
    let name: PlanName = serde_json::from_str("\"V2\"").unwrap();
    assert_ne!(name, "v2".parse().unwrap());
    assert_eq!(serde_json::to_string(&name).unwrap(), "\"V2\"");
    let said = serde_json::from_str::<PlanName>("\"a/b\"").unwrap_err().to_string();
    assert!(said.contains("contains '/'"), "{said}");
    assert!(serde_json::from_str::<PlanName>("5").is_err());
}

#[test]
fn messages_about_names_hold_no_control_characters() {
    for bad in ["\u{1b}[31m", ".\u{7}", "a\r\nb"] {
        let said = bad.parse::<PlanName>().unwrap_err().to_string();
        assert!(!said.contains(char::is_control), "{said:?}");
    }
}

#[test]
fn switch_modes_are_words() {
    assert_eq!(SwitchMode::default(), SwitchMode::At);
    for bad in ["", "AT", "window", "window:", "window:0", "window:-1", "window: 5", "window:5x", "halt"] {
        assert_eq!(bad.parse::<SwitchMode>(), Err(BadSwitchMode(bad.into())));
    }
    assert!(
        serde_json::from_str::<SwitchMode>("\"soon\"").unwrap_err().to_string().contains("no switch mode")
    );
}

#[test]
fn a_plan_keeps_its_journal_form() {
    let text = r#"{"name":"v2","height":5,"info":{"description":null,"binaries":{},"checksums":{}},"switch":"window:9","args":["a"],"env":{"K":"v"},"expect_version":null}"#;
    let plan: Plan = serde_json::from_str(text).unwrap();
    assert_eq!(plan.switch, SwitchMode::Window(9));
    assert_eq!(serde_json::to_string(&plan).unwrap(), text);
}

proptest! {
    #[test]
    fn no_name_leaves_its_directory(text in ".{0,140}") {
        if let Ok(name) = text.parse::<PlanName>() {
            let path = std::path::Path::new(name.as_str());
            prop_assert_eq!(path.components().count(), 1);
            prop_assert!(matches!(path.components().next(), Some(std::path::Component::Normal(_))));
        }
    }

    #[test]
    fn every_mode_is_read_back(blocks in 1u64.., pick in 0usize..5) {
        let modes =
            [SwitchMode::At, SwitchMode::Before, SwitchMode::Halted, SwitchMode::Manual, SwitchMode::Window(blocks)];
        let mode = modes[pick];
        prop_assert_eq!(mode.to_string().parse::<SwitchMode>(), Ok(mode));
        let json = serde_json::to_string(&mode).unwrap();
        prop_assert_eq!(serde_json::from_str::<SwitchMode>(&json).unwrap(), mode);
    }
}
