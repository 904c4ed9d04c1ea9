//! Starting nodes: what they get, what they hold, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use wemixvisor_host::keeper::{FileIdentity, Keeper, KeeperError, SpawnError, WaitStatus};

use crate::home::{Home, exists, keeper_program, until};

#[tokio::test]
async fn the_end_of_a_node_is_told_as_it_was() {
    let home = Home::new();
    let mut at = home.start().await;
    for (id, script, status) in [
        (1, "echo one; echo two >&2; exit 7", WaitStatus::Exited(7)),
        (2, "exit 0", WaitStatus::Exited(0)),
        (3, "kill -9 $$", WaitStatus::Signaled { signal: 9, core: false }),
        (4, "kill -15 $$", WaitStatus::Signaled { signal: 15, core: false }),
    ] {
        let node = at.keeper.spawn(home.sh(id, script)).await.unwrap();
        assert_eq!((node.launch_id, node.term_sent, node.adopted), (id, false, false));
        let exit = at.exit().await;
        assert_eq!((exit.launch_id, exit.pid, exit.status), (id, node.pid, status));
        assert!(
            !exit.term_sent && !exit.kill_sent && !exit.oom_killed && exit.leftovers.is_empty(),
            "{exit:?}"
        );
        if id == 1 {
            assert_eq!(exit.last_output, ["one", "two"]);
        }
    }
    let state = at.keeper.state().await.unwrap();
    assert_eq!((state.node, state.last_exit.unwrap().launch_id), (None, 4));
    assert_eq!(home.log_text(), "one\ntwo\n");
}

#[tokio::test]
async fn arguments_environment_and_directory_arrive_byte_for_byte() {
    let home = Home::new();
    let at = home.start().await;
    let odd: Vec<OsString> =
        [b"a b".as_slice(), b"\"q'\\", b"", b"$HOME `x` %41 %", b"\xff\xfe\x80", "\u{e9}\n\t".as_bytes()]
            .map(|bytes| OsString::from_vec(bytes.to_vec()))
            .to_vec();
    let mut launch = home.sh(1, "sleep 1000; :");
    // And a megabyte in all: many times a socket's buffer.
    let odd: Vec<OsString> =
        odd.into_iter().chain(["x".repeat(100_000).into()].into_iter().cycle().take(10)).collect();
    launch.args.extend(odd.clone());
    launch.env = vec![
        ("PLAIN".into(), "x".into()),
        ("ODD".into(), OsString::from_vec(b"a=b \xc3\x28 %zz".to_vec())),
        ("EMPTY".into(), "".into()),
    ];
    launch.cwd = home.data();
    let node = at.keeper.spawn(launch).await.unwrap();

    let mut wanted = b"/bin/sh\0-c\0sleep 1000; :\0".to_vec();
    odd.iter().for_each(|arg| wanted.extend_from_slice(&[arg.as_bytes(), b"\0"].concat()));
    assert_eq!(fs::read(format!("/proc/{}/cmdline", node.pid)).unwrap(), wanted);
    let environ = fs::read(format!("/proc/{}/environ", node.pid)).unwrap();
    let mut variables: Vec<&[u8]> =
        environ.split(|&byte| byte == 0).filter(|part| !part.is_empty()).collect();
    variables.sort_unstable();
    assert_eq!(variables, [b"EMPTY=".as_slice(), b"ODD=a=b \xc3\x28 %zz", b"PLAIN=x"]);
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", node.pid)).unwrap(), home.data());
    assert_eq!(
        fs::read_link(format!("/proc/{}/fd/0", node.pid)).unwrap(),
        fs::read_link("/proc/self/fd/0").unwrap(),
        "standard input is the supervisor's"
    );
}

#[tokio::test]
async fn a_node_begins_with_a_clean_slate() {
    let home = Home::new();
    let at = home.start().await;
    // The shell becomes the program, so nothing but the launch itself has touched signals and descriptors.
    let node = at.keeper.spawn(home.program(1, Path::new("/bin/sleep"), &["1000"])).await.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid)).unwrap();
    for mask in ["SigBlk", "SigIgn"] {
        assert!(status.contains(&format!("{mask}:\t0000000000000000")), "{mask} in {status}");
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", node.pid)).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    assert_eq!(fields[3], node.pid.to_string(), "it leads its own session");
    let descriptors = || -> Vec<String> {
        let links = fs::read_dir(format!("/proc/{}/fd", node.pid)).unwrap();
        let links = links.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        links.map(|link| link.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    // The loader opens and closes libraries in the first moments.
    until("it has the standard streams and three locks", async || descriptors().len() == 6).await;
    let open = descriptors();
    for lock in ["node.lock", "wemixvisor-node.lock", "data"] {
        assert!(open.contains(&lock.to_owned()), "{lock} is not in {open:?}");
    }
}

#[tokio::test]
async fn a_second_node_is_refused_by_whatever_lock() {
    let (home, other) = (Home::new(), Home::new());
    let (at, beside) = (home.start().await, other.start().await);
    let node = at.keeper.spawn(home.sh(1, "sleep 1000; :")).await.unwrap();

    match at.keeper.spawn(home.sh(2, ":")).await {
        Err(SpawnError::NodeStillRuns { holders, .. }) => assert_eq!(holders, [node.pid]),
        other => panic!("{other:?}"),
    }
    // Another home on the same data directory.
    let mut launch = other.sh(1, ":");
    launch.locks = vec![home.data().join(wemixvisor_host::keeper::DATA_DIR_LOCK)];
    match beside.keeper.spawn(launch).await {
        Err(SpawnError::NodeStillRuns { lock, holders }) => {
            assert_eq!(lock, home.data().join(wemixvisor_host::keeper::DATA_DIR_LOCK));
            assert!(holders.contains(&node.pid), "{holders:?}");
        }
        other => panic!("{other:?}"),
    }
    // And a lock file that somebody removed does not open the way.
    fs::remove_file(home.dir().join("node.lock")).unwrap();
    fs::remove_file(home.data().join(wemixvisor_host::keeper::DATA_DIR_LOCK)).unwrap();
    assert!(matches!(at.keeper.spawn(home.sh(3, ":")).await, Err(SpawnError::NodeStillRuns { .. })));
    assert!(exists(node.pid));
    at.keeper.kill(None).await.unwrap();
}

#[tokio::test]
async fn a_second_keeper_refuses_to_serve() {
    let home = Home::new();
    let at = home.start().await;
    match Keeper::start(&home.dir(), &keeper_program(), None).await {
        Err(KeeperError::Refused(why)) => {
            assert!(why.contains(&format!("pid {}", at.state.keeper_pid)), "{why}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_executed_is_named() {
    let home = Home::new();
    let mut at = home.start().await;
    let file = |name: &str, text: &str, mode: u32| {
        let path = home.root.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    for (path, wanted) in [
        (file("plain", "#!/bin/sh\n", 0o644), 13),
        (file("web-page", "<html>", 0o755), 8),
        (file("no-interpreter", "#!/nonexistent/sh\n", 0o755), 2),
    ] {
        match at.keeper.spawn(home.program(1, &path, &[])).await {
            Err(SpawnError::Exec { errno, .. }) => assert_eq!(errno, Some(wanted), "{}", path.display()),
            other => panic!("{other:?}"),
        }
    }
    let mut launch = home.sh(1, ":");
    launch.program = "/nonexistent".into();
    assert!(matches!(at.keeper.spawn(launch).await, Err(SpawnError::Exec { errno: Some(2), .. })));
    let mut launch = home.sh(1, ":");
    launch.cwd = "/nonexistent".into();
    assert!(matches!(at.keeper.spawn(launch).await, Err(SpawnError::Prepare { .. })));
    let mut launch = home.sh(1, ":");
    launch.locks = vec!["/nonexistent/lock".into()];
    assert!(matches!(at.keeper.spawn(launch).await, Err(SpawnError::Lock { .. })));
    // None of them left a lock behind.
    at.keeper.spawn(home.sh(2, ":")).await.unwrap();
    assert_eq!(at.exit().await.launch_id, 2);
}

#[tokio::test]
async fn a_program_that_is_still_being_written_is_waited_for() {
    let home = Home::new();
    let at = home.start().await;
    let program = home.root.path().join("node");
    assert!(Command::new("cp").arg("/bin/true").arg(&program).status().unwrap().success());
    let writer = fs::OpenOptions::new().append(true).open(&program).unwrap();
    let launch = home.program(1, &program, &[]);
    let started = tokio::spawn(async move {
        let node = at.keeper.spawn(launch).await;
        (at, node)
    });
    // The order is on its way; whether it comes before or after, the outcome is the same.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    drop(writer);
    let (mut at, node) = started.await.unwrap();
    node.unwrap();
    assert_eq!(at.exit().await.status, WaitStatus::Exited(0));
}

#[tokio::test]
async fn a_file_that_changed_after_it_was_verified_is_not_run() {
    let home = Home::new();
    let mut at = home.start().await;
    let program = home.root.path().join("node");
    let copy = |from: &str| assert!(Command::new("cp").arg(from).arg(&program).status().unwrap().success());
    copy("/bin/sleep");
    let mut launch = home.program(1, &program, &["1000"]);
    // Content replaced in place, by rename, and only touched: nothing of this was verified.
    copy("/bin/true");
    assert!(matches!(at.keeper.spawn(launch.clone()).await, Err(SpawnError::Changed { .. })));
    launch.identity = FileIdentity::at(&program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o711)).unwrap();
    assert!(matches!(at.keeper.spawn(launch.clone()).await, Err(SpawnError::Changed { .. })));
    launch.identity = FileIdentity::at(&program).unwrap();
    at.keeper.spawn(launch).await.unwrap();
    assert_eq!(at.exit().await.status, WaitStatus::Exited(0));

    // A script is known by its own file, not by its interpreter's.
    let script = home.root.path().join("script");
    fs::write(home.root.path().join("text"), "#!/bin/sh\nsleep 1000; :\n").unwrap();
    assert!(Command::new("cp").arg(home.root.path().join("text")).arg(&script).status().unwrap().success());
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let launch = home.program(2, &script, &[]);
    let node = at.keeper.spawn(launch.clone()).await.unwrap();
    at.keeper.kill(None).await.unwrap();
    assert_eq!(at.exit().await.pid, node.pid);
    at.keeper.end_leftovers().await.unwrap();
    fs::rename(home.root.path().join("text"), &script).unwrap();
    assert!(matches!(at.keeper.spawn(launch).await, Err(SpawnError::Changed { .. })));
}

#[tokio::test]
async fn a_path_longer_than_a_socket_address_is_no_hindrance() {
    let home = Home::new();
    let deep = home.root.path().join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(deep.join("logs")).unwrap();
    let (keeper, state) = Keeper::start(&deep, &keeper_program(), None).await.unwrap();
    keeper.bye().await;
    until("the keeper ends", async || !exists(state.keeper_pid)).await;
}
