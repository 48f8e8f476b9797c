//! The `dunlin` program, run as a user runs it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::server::{LOCAL, Server, error_of, objects, text};
use crate::{dunlin, run};

#[test]
fn an_echo_is_served_and_called() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["echo", LOCAL[0], LOCAL[1]]);
    let called =
        run(home.path(), &["call", "--peer", &server.address, "echo/say", "{\"a\": [1, 2]}"]);
    assert!(called.status.success(), "{}", text(&called.stderr));
    assert_eq!(text(&called.stdout), "{\"a\": [1, 2]}\n");

    let called =
        run(home.path(), &["--json", "call", "--peer", &server.address, "echo/say", "\"hi\""]);
    let answer = &objects(&called.stdout)[0];
    assert_eq!((&answer["answer"], &answer["content"]), (&"hi".into(), &"json".into()));
    assert!(answer["elapsed_us"].is_u64());

    let mut piped = dunlin(home.path())
        .args(["call", "--peer", &server.address, "--raw", "echo/say", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(&[0, 1, 255]).unwrap();
    assert_eq!(piped.wait_with_output().unwrap().stdout, [0, 1, 255], "bytes as they are");
}

#[test]
fn a_server_that_is_interrupted_takes_leave() {
    let home = tempfile::tempdir().unwrap();
    // From the moment that it says where it listens: signals that were awaited later were lost to the
    // system's default, one time in many.
    for _ in 0..20 {
        let mut server = Server::start(home.path(), &["echo", LOCAL[0], LOCAL[1]]);
        server.interrupt();
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut server.lines, &mut rest).unwrap();
        objects(rest.as_bytes());
    }
}

#[test]
fn a_call_that_fails_says_how() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["echo", LOCAL[0], LOCAL[1]]);
    let peer = ["call", "--peer", server.address.as_str()];
    let failed = run(home.path(), &[&peer[..], &["no/body"]].concat());
    assert_eq!(failed.status.code(), Some(1));
    let said = text(&failed.stderr);
    assert!(said.contains("error: NO_RESPONDERS") && said.contains("not executed"), "{said}");
    let failed = run(home.path(), &[&["--json"], &peer[..], &["no/body"]].concat());
    let error = error_of(&failed);
    assert_eq!((&error["code"], &error["executed"]), (&"NO_RESPONDERS".into(), &"no".into()));

    // Somebody else's id at this address.
    let (_, host) = server.address.split_once('@').unwrap();
    let made = run(home.path(), &["id", "new", "--out", "/dev/null/x"]);
    assert_eq!(made.status.code(), Some(1));
    let made = run(home.path(), &["id", "new"]);
    let wrong = format!("{}@{host}", text(&made.stdout).trim());
    let failed = run(home.path(), &["--json", "call", "--peer", &wrong, "echo/say"]);
    let error = error_of(&failed);
    assert_eq!(error["code"], "CONNECT");
    assert!(error["message"].as_str().unwrap().contains("another key"), "{error}");
}

#[test]
fn a_command_is_served() {
    let home = tempfile::tempdir().unwrap();
    let script = "read line; [ \"$line\" = fail ] && { echo broken >&2; exit 3; }; \
                  [ \"$line\" = much ] && exec yes; echo \"got $line\"";
    let command = ["exec", "--path", "tools/sh", "--output-max", "1000", LOCAL[0], LOCAL[1]];
    let server = Server::start(home.path(), &[&command[..], &["--", "sh", "-c", script]].concat());
    let call = |argument: &str| {
        run(
            home.path(),
            &["--json", "call", "--peer", &server.address, "--raw", "tools/sh", argument],
        )
    };
    assert_eq!(objects(&call("text\n").stdout)[0]["answer"], "got text\n");
    let error = error_of(&call("fail"));
    assert_eq!((&error["code"], &error["executed"]), (&"EXIT_3".into(), &"yes".into()));
    assert!(error["message"].as_str().unwrap().contains("broken"));
    assert_eq!(error_of(&call("much"))["code"], "OUTPUT_TOO_LARGE");
}

#[test]
fn whoever_may_not_run_a_command_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let friend = home.path().join("friend.key");
    let friend = friend.to_str().unwrap();
    let id = text(&run(home.path(), &["id", "new", "--out", friend]).stdout);
    let args = ["exec", "--path", "tools/true", "--allow", id.trim(), LOCAL[0], LOCAL[1]];
    let server = Server::start(home.path(), &[&args[..], &["--", "true"]].concat());
    let call = ["--json", "call", "--peer", server.address.as_str(), "tools/true"];
    let refused = error_of(&run(home.path(), &call));
    assert!(refused["message"].as_str().unwrap().contains("not on its list"), "{refused}");
    let served = run(home.path(), &[&call[..], &["--key", friend]].concat());
    assert!(served.status.success(), "{}", text(&served.stderr));
}

#[test]
fn identities_are_made_once_and_shown() {
    let home = tempfile::tempdir().unwrap();
    let missing = run(home.path(), &["id", "show"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("dunlin id new"), "{}", text(&missing.stderr));
    let made = run(home.path(), &["id", "new"]);
    let shown = run(home.path(), &["id", "show"]);
    assert_eq!(made.stdout, shown.stdout);
    let again = run(home.path(), &["id", "new"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("--force"), "{}", text(&again.stderr));
    let forced = run(home.path(), &["--json", "id", "new", "--force"]);
    let id = objects(&forced.stdout)[0]["id"].clone();
    assert_ne!(text(&made.stdout).trim(), id);
    let shown = run(home.path(), &["id", "show", "--json"]);
    assert_eq!(objects(&shown.stdout)[0]["id"], id);
}

#[cfg(unix)]
#[test]
fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("open.key");
    let file = key.to_str().unwrap();
    run(home.path(), &["id", "new", "--out", file]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    for args in [vec!["id", "show", "--key", file], vec!["serve", "echo", "--key", file]] {
        let refused = run(home.path(), &args);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("chmod 600"), "{}", text(&refused.stderr));
    }
}

#[test]
fn a_node_keeps_its_store_to_itself_and_finds_it_again() {
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("a.key");
    let (key, data) = (key.to_str().unwrap(), home.path().join("data"));
    run(home.path(), &["id", "new", "--out", key]);
    let node = ["--key", key, "--data", data.to_str().unwrap(), "--control", "none"];
    let served = [&["echo"], &LOCAL[..], &node].concat();
    for _ in 0..2 {
        let server = Server::start(home.path(), &served);
        let second = run(home.path(), &[&["--json", "serve"], &served[..]].concat());
        assert_eq!(error_of(&second)["code"], "STORE");
        let called = run(home.path(), &["call", "--peer", &server.address, "echo/say", "1"]);
        assert!(called.status.success(), "{}", text(&called.stderr));
        // Killed, and not asked to stop.
    }
    let other = home.path().join("b.key");
    let other = other.to_str().unwrap();
    run(home.path(), &["id", "new", "--out", other]);
    let stranger = [&["--json", "serve", "echo", "--key", other], &node[2..]].concat();
    let refused = run(home.path(), &stranger);
    assert!(error_of(&refused)["message"].as_str().unwrap().contains("belongs to"));
    // Whoever has a key of its own has a store of its own, unless told otherwise.
    let server = Server::start(home.path(), &["echo", LOCAL[0], LOCAL[1], "--key", key]);
    assert!(home.path().join("dunlin").read_dir().unwrap().count() == 1);
    drop(server);
}

#[test]
fn a_damaged_store_is_one_clear_error_and_no_panic() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let key = home.path().join("a.key");
    let key = key.to_str().unwrap();
    run(home.path(), &["id", "new", "--out", key]);
    let node = ["--key", key, "--data", data.to_str().unwrap(), "--control", "none"];
    let mut server = Server::start(home.path(), &[&["echo"], &LOCAL[..], &node].concat());
    server.interrupt();
    server.child.wait().unwrap();
    let path = data.join("store.redb");
    let sound = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (0..sound.len().min(128 << 10)).step_by(8 << 10) {
        let mut bytes = sound.clone();
        bytes[at..at + (8 << 10)].fill(0x5a);
        std::fs::write(&path, &bytes).unwrap();
        // The port is taken: it never starts, and what is damaged is seen before.
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap().to_string();
        let run = run(
            home.path(),
            &[&["--json", "serve", "echo", "--listen", &taken], &node[..]].concat(),
        );
        let lines: Vec<Value> = objects(&run.stderr);
        let error = lines.last().unwrap()["error"].clone();
        assert_eq!(lines.iter().filter(|line| line["error"].is_object()).count(), 1, "{lines:?}");
        let is_damage = error["message"].as_str().unwrap().contains("is damaged");
        assert!(is_damage || error["code"] == "START", "{at}: {error}");
        refused += usize::from(is_damage);
    }
    assert!(refused > 0, "none of it is noticed");
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let failed = run(home.path(), &["--json", "node", "run", "--listen", &address]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(error_of(&failed)["message"].as_str().unwrap().contains(&address));
}

#[test]
fn a_wrong_command_line_is_told_from_a_failure() {
    let home = tempfile::tempdir().unwrap();
    let id = text(&run(home.path(), &["id", "new"]).stdout);
    let peer = format!("{}@127.0.0.1:9", id.trim());
    for args in [
        vec!["call", "--key", "a.key", "echo/say"],
        vec!["call", "--network", "a", "--token", "b", "echo/say"],
        vec!["call", "--peer", &peer, "--control", "a.sock", "echo/say"],
        vec!["call", "--peer", "nobody", "echo/say"],
        vec!["call", "--peer", &peer, "--timeout", "10", "echo/say"],
        vec!["call", "--peer", &peer, "echo/say", "not json"],
        vec!["call", "--peer", &peer, "no//path"],
        vec!["serve", "exec", "--path", "tools/x"],
        vec!["serve", "exec", "--path", "x", "--", "true"],
        vec!["frobnicate"],
        vec![],
    ] {
        let wrong = run(home.path(), &args);
        assert_eq!(wrong.status.code(), Some(2), "{args:?}: {}", text(&wrong.stderr));
        let wrong = run(home.path(), &[&args[..], &["--json"]].concat());
        if args.contains(&"--") {
            continue; // There, --json belongs to the command.
        }
        assert_eq!(wrong.status.code(), Some(2), "{args:?}");
        assert_eq!(error_of(&wrong)["code"], "USAGE", "{args:?}");
    }
    for args in [vec!["--help"], vec!["help", "serve", "exec"], vec!["call", "--help"]] {
        let help = run(home.path(), &args);
        assert!(help.status.success());
        assert!(text(&help.stdout).contains("dunlin"), "{args:?}");
    }
}

#[test]
fn the_demonstration_succeeds() {
    let home = tempfile::tempdir().unwrap();
    let demo = run(home.path(), &["demo", "--json", "--calls", "20"]);
    assert!(demo.status.success(), "{}", text(&demo.stderr));
    let steps: Vec<String> =
        objects(&demo.stdout).iter().map(|o| o["step"].as_str().unwrap().to_string()).collect();
    for step in [
        "started",
        "connected",
        "latency",
        "balanced",
        "events",
        "noticed",
        "reconnected",
        "stopped",
    ] {
        assert!(steps.iter().any(|s| s == step), "{step} in {steps:?}");
    }
}

#[test]
fn services_and_peers_are_listed_and_a_peer_answers_a_ping() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["echo", LOCAL[0], LOCAL[1]]);
    let id = server.address.split('@').next().unwrap().to_string();
    let peer = ["--peer", &server.address];
    let listed = run(home.path(), &["service", "ls", peer[0], peer[1]]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    assert!(text(&listed.stdout).starts_with("echo "), "{}", text(&listed.stdout));
    let shown = run(home.path(), &["--json", "service", "info", peer[0], peer[1], "echo"]);
    let service = &objects(&shown.stdout)[0];
    assert_eq!((&service["service"], &service["peer"]), (&"echo".into(), &id.as_str().into()));
    assert_eq!(service["state"], "running");
    assert!(!service["actions"][0]["description"].as_str().unwrap().is_empty());
    let none = run(home.path(), &["--json", "service", "info", peer[0], peer[1], "nothing"]);
    assert_eq!(none.status.code(), Some(1));
    let error = error_of(&none);
    assert_eq!(error["code"], "NO_SUCH_SERVICE");
    assert!(error["message"].as_str().unwrap().contains("echo"), "{error}");

    let peers = run(home.path(), &["--json", "peer", "ls", peer[0], peer[1]]);
    assert_eq!(objects(&peers.stdout)[0]["services"][0], "echo");
    let args = ["--json", "peer", "ping", peer[0], peer[1], "--count", "3", "--interval", "1ms"];
    let pinged = run(home.path(), &args);
    assert!(pinged.status.success(), "{}", text(&pinged.stderr));
    let answers = objects(&pinged.stdout);
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|answer| answer["elapsed_us"].as_u64().is_some()));
}
/// A network in a folder, and a key with a token for it.
struct Shop {
    home: tempfile::TempDir,
}

impl Shop {
    fn new() -> Shop {
        let home = tempfile::tempdir().unwrap();
        let shop = Shop { home };
        shop.ok(&["network", "new", "shop", "--out", &shop.path("shop")]);
        shop
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_string()
    }

    fn run(&self, args: &[&str]) -> Output {
        run(self.home.path(), args)
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_string()
    }

    fn object(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[&["--json"], args].concat())).unwrap()
    }

    fn error(&self, args: &[&str]) -> String {
        let output = self.run(&[&["--json"], args].concat());
        assert!(!output.status.success(), "{args:?}");
        error_of(&output)["message"].as_str().unwrap().to_string()
    }

    /// Makes `NAME.key` and, issued to it, `NAME.token`; gives the id.
    fn member(&self, name: &str, more: &[&str]) -> String {
        let id = self.ok(&["id", "new", "--out", &self.path(&format!("{name}.key"))]);
        let (network, key) = (self.path("shop/network"), self.path("shop/issuer.key"));
        let token = self.path(&format!("{name}.token"));
        let issue = ["token", "issue", "--network", &network, "--issuer-key", &key, "--to", &id];
        self.ok(&[&issue[..], &["--out", &token], more].concat());
        id
    }

    /// The options by which `name` is itself.
    fn as_member(&self, name: &str) -> Vec<String> {
        let file = |kind: &str| self.path(&format!("{name}.{kind}"));
        let network = self.path("shop/network");
        ["--key", &file("key"), "--network", &network, "--token", &file("token")]
            .map(String::from)
            .to_vec()
    }
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

#[test]
fn a_network_is_made_and_its_keys_are_private() {
    let shop = Shop::new();
    let shown = shop.object(&["network", "show", &shop.path("shop/network")]);
    assert_eq!((&shown["name"], &shown["sequence"]), (&"shop".into(), &0.into()));
    assert!(shown["id"].as_str().unwrap().starts_with("n-"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for name in ["root.key", "next-root.key", "issuer.key"] {
            let about = shop.home.path().join("shop").join(name).metadata().unwrap();
            assert_eq!(about.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
    let again = shop.error(&["network", "new", "shop", "--out", &shop.path("shop")]);
    assert!(again.contains("exists already") && again.contains("--out"), "{again}");
    let words = shop.error(&["network", "new", "two words", "--out", &shop.path("other")]);
    assert!(words.contains("letters, digits"), "{words}");
    assert!(!shop.home.path().join("other/root.key").exists(), "nothing is left behind");
}

#[test]
fn tokens_are_issued_narrowed_shown_and_checked() {
    let shop = Shop::new();
    let network = shop.path("shop/network");
    let alice = shop.member(
        "alice",
        &["--allow", "call:a/>", "--allow", "delegate:a/>", "--depth", "1", "--valid", "2h"],
    );
    let bob = shop.ok(&["id", "new", "--out", &shop.path("bob.key")]);
    let narrow = |allow: &str, out: &str| {
        let (token, key) = (shop.path("alice.token"), shop.path("alice.key"));
        let out = shop.path(out);
        let args = ["token", "attenuate", &token, "--key", &key, "--to", &bob, "--out", &out];
        shop.run(&[&args[..], &["--allow", allow]].concat())
    };
    assert!(narrow("call:a/b", "bob.token").status.success());
    let wide = narrow("call:>", "wide.token");
    assert!(text(&wide.stderr).contains("call:> needs call:>"), "{}", text(&wide.stderr));
    let again = narrow("call:a/b", "bob.token");
    assert!(text(&again.stderr).contains("exists already"), "{}", text(&again.stderr));

    let shown = shop.object(&["token", "inspect", &shop.path("bob.token")]);
    let links = shown["links"].as_array().unwrap();
    assert_eq!(links.len(), 2);
    assert_eq!(
        (&links[0]["subject"], &links[1]["issuer"]),
        (&alice.as_str().into(), &links[0]["subject"])
    );
    assert_eq!(links[1]["allow"], serde_json::json!(["call:a/b"]));
    let verify =
        ["token", "verify", &shop.path("bob.token"), "--network", &network].map(String::from);
    let counts = shop.object(&strs(&verify));
    assert_eq!((&counts["counts"], &counts["subject"]), (&true.into(), &bob.as_str().into()));
    let stolen = shop.error(&[&strs(&verify)[..], &["--peer", &alice]].concat());
    assert!(stolen.contains("it belongs to"), "{stolen}");
    let wrong = shop.error(&["token", "inspect", &network]);
    assert!(wrong.contains("dunlin-token-v1:"), "{wrong}");
    let key = shop.path("alice.key");
    let issue = ["token", "issue", "--network", &network, "--issuer-key", &key, "--to", &bob];
    let untrusted = shop.error(&[&issue[..], &["--allow", "call:>"]].concat());
    assert!(untrusted.contains("does not trust"), "{untrusted}");
    let nonsense = shop.error(&[&issue[..], &["--allow", "fly:>"]].concat());
    assert!(!nonsense.is_empty());

    // Revoked, and everything made from it.
    let (root, token) = (shop.path("shop/root.key"), shop.path("alice.token"));
    let revoke = ["token", "revoke", "--network", &network, "--root-key", &root];
    assert_eq!(shop.run(&revoke).status.code(), Some(2), "what is to be revoked?");
    let shown = shop.object(&[&revoke[..], &["--token", &token]].concat());
    assert_eq!(shown["sequence"], 1);
    let revoked = shop.error(&strs(&verify));
    assert!(revoked.contains("link 1") && revoked.contains("is revoked"), "{revoked}");
    let other = ["token", "revoke", "--network", &network, "--root-key", &key, "--all"];
    let stranger = shop.error(&other);
    assert!(stranger.contains("neither the network's root"), "{stranger}");
}

#[test]
fn the_next_root_takes_over() {
    let shop = Shop::new();
    let network = shop.path("shop/network");
    let (root, next) = (shop.path("shop/root.key"), shop.path("shop/next-root.key"));
    let third = shop.ok(&["id", "new", "--out", &shop.path("third.key")]);
    let renew = ["network", "renew", &network, "--root-key"].map(String::from);
    let renew = strs(&renew);
    let missing = shop.error(&[&renew[..], &[&next]].concat());
    assert!(missing.contains("--next-root"), "{missing}");
    let shown = shop.object(&[&renew[..], &[&next, "--next-root", &third]].concat());
    assert_eq!((&shown["sequence"], &shown["next_root"]), (&1.into(), &third.as_str().into()));
    let gone = shop.error(&[&renew[..], &[&root]].concat());
    assert!(gone.contains("neither the network's root"), "{gone}");
}

#[test]
fn a_served_network_lets_in_whom_it_gave_a_token_until_it_is_revoked() {
    let shop = Shop::new();
    shop.member("server", &["--allow", "serve:echo/*"]);
    shop.member("caller", &["--allow", "call:echo/*"]);
    let args = ["echo", LOCAL[0], LOCAL[1]].map(String::from).to_vec();
    let args = [args, shop.as_member("server")].concat();
    let mut server = Server::start(shop.home.path(), &strs(&args));
    let member = shop.as_member("caller");
    let call = |path: &str| {
        let args = ["call", "--peer", &server.address, path, "1"];
        [&args[..], &strs(&member)].concat().into_iter().map(String::from).collect::<Vec<_>>()
    };
    let (say, other) = (call("shop:echo/say"), call("other/say"));
    assert_eq!(shop.object(&strs(&say))["answer"], 1);
    let denied = shop.error(&strs(&other));
    assert!(denied.contains("'call' is missing for 'other/say'"), "{denied}");
    let stranger = shop.error(&["call", "--peer", &server.address, "echo/say", "1"]);
    assert!(stranger.contains("none of this node's networks"), "{stranger}");
    let only_network = ["call", "--peer", &server.address, "echo/say", "--network", "x"];
    assert_eq!(shop.run(&only_network).status.code(), Some(2));

    // The server's own file is replaced, and it takes it without a restart. The caller has an old copy.
    let copy = shop.path("old-network");
    std::fs::copy(shop.path("shop/network"), &copy).unwrap();
    let (network, root) = (shop.path("shop/network"), shop.path("shop/root.key"));
    let revoke = ["token", "revoke", "--network", &network, "--root-key", &root];
    shop.ok(&[&revoke[..], &["--token", &shop.path("caller.token")]].concat());
    loop {
        let mut line = String::new();
        assert!(server.lines.read_line(&mut line).unwrap() > 0, "it says that it took the file");
        if line.contains("file_taken") {
            break;
        }
    }
    let old: Vec<String> =
        say.iter().map(|arg| if *arg == network { copy.clone() } else { arg.clone() }).collect();
    let refused = shop.error(&strs(&old));
    assert!(refused.contains("does not count there"), "{refused}");
}

#[test]
fn a_node_in_two_networks_serves_each_its_own() {
    let shop = Shop::new();
    shop.ok(&["network", "new", "bank", "--out", &shop.path("bank")]);
    let (bank, issuer) = (shop.path("bank/network"), shop.path("bank/issuer.key"));
    let everything = ["--allow", "serve:>", "--allow", "call:>"];
    for member in ["server", "caller", "teller"] {
        let id = shop.member(member, &everything);
        let out = shop.path(&format!("{member}.bank"));
        let issue = ["token", "issue", "--network", &bank, "--issuer-key", &issuer, "--to", &id];
        shop.ok(&[&issue[..], &["--out", &out], &everything].concat());
    }
    let in_bank = |member: &str| {
        let token = shop.path(&format!("{member}.bank"));
        ["--network", &bank, "--token", &token].map(String::from).to_vec()
    };
    // The shop is the server's default; `echo` is served there alone.
    let args = ["echo", LOCAL[0], LOCAL[1]].map(String::from).to_vec();
    let args = [args, shop.as_member("server"), in_bank("server")].concat();
    let server = Server::start(shop.home.path(), &strs(&args));
    let call = ["call", "--peer", &server.address].map(String::from).to_vec();
    let ask =
        |path: &str, rights: &[String]| [&call[..], &[path.into(), "1".into()], rights].concat();
    let caller = shop.as_member("caller");
    assert_eq!(shop.object(&strs(&ask("echo/say", &caller)))["answer"], 1);
    let teller = [vec!["--key".to_string(), shop.path("teller.key")], in_bank("teller")].concat();
    let refused = shop.error(&strs(&ask("echo/say", &teller)));
    assert!(refused.contains("echo/say"), "{refused}");
    let refused = shop.error(&strs(&ask("shop:echo/say", &teller)));
    assert!(refused.contains("in no network 'shop'"), "{refused}");
    let both = [shop.as_member("caller"), in_bank("caller")].concat();
    assert_eq!(shop.object(&strs(&ask("shop:echo/say", &both)))["answer"], 1);
    assert!(shop.error(&strs(&ask("bank:echo/say", &both))).contains("bank:echo/say"));
}

#[test]
fn the_development_network_is_announced_loudly_by_all_who_join_it() {
    let home = tempfile::tempdir().unwrap();
    for command in
        [&["serve", "echo", LOCAL[0], LOCAL[1]][..], &["node", "run", LOCAL[0], LOCAL[1]]]
    {
        let mut child = dunlin(home.path())
            .args(command)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(line.starts_with("WARNING: DEVELOPMENT NETWORK"), "{command:?}: {line}");
    }
    let server = Server::start(home.path(), &["echo", LOCAL[0], LOCAL[1]]);
    for command in [
        &["call", "echo/say"][..],
        &["service", "ls"],
        &["service", "info", "echo"],
        &["peer", "ls"],
        &["peer", "ping", "--count", "1"],
    ] {
        let joined = [command, &["--peer", &server.address]].concat();
        let said = run(home.path(), &joined);
        assert!(said.status.success(), "{command:?}: {}", text(&said.stderr));
        assert!(text(&said.stderr).starts_with("WARNING: DEVELOPMENT NETWORK"), "{command:?}");
        let said = run(home.path(), &[&["--json"], &joined[..]].concat());
        let note = objects(&said.stderr)[0]["WARNING"].as_str().unwrap().to_string();
        assert!(note.starts_with("DEVELOPMENT NETWORK"), "{command:?}: {note}");
        // The node that runs already has said it.
        let asked = run(home.path(), command);
        assert!(!text(&asked.stderr).contains("DEVELOPMENT"), "{command:?}");
    }
    let demo = run(home.path(), &["demo", "--json", "--calls", "1"]);
    assert!(text(&demo.stderr).contains("DEVELOPMENT NETWORK"), "{}", text(&demo.stderr));
}
