//! `dunlin leader watch`, and what it has printed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use dunlin_tokio::{FencingToken, PeerId};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::calls::parse_token;
use crate::cluster::{Cluster, PATIENCE};

/// One who watches, from the client's node.
pub(crate) struct Watching {
    child: Child,
    lines: mpsc::UnboundedReceiver<Value>,
    printed: Vec<Value>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watching {
    pub(crate) fn start(cluster: &Cluster) -> Watching {
        let mut command = cluster.command(&["leader", "watch", "counter"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (tell, said) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).expect("an object"));
            }
        });
        Watching { child, lines: said, printed: Vec::new() }
    }

    /// Waits for the line that says who is active by this token.
    pub(crate) async fn until(&mut self, (leader, token): (PeerId, FencingToken)) {
        let (leader, token) = (leader.to_string(), token.to_string());
        let is_said = |line: &Value| line["token"] == token && line["leader"] == leader;
        if self.printed.iter().any(is_said) {
            return;
        }
        let said = async {
            loop {
                let line = self.lines.recv().await.expect("it goes on");
                self.printed.push(line);
                if is_said(self.printed.last().expect("just pushed")) {
                    return;
                }
            }
        };
        timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("nobody says {leader} {token}"));
    }

    /// Interrupts it. Each line told something new, and tokens never went back. The tokens that it has printed.
    pub(crate) async fn end(mut self) -> Vec<FencingToken> {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
        let rest = async {
            while let Some(line) = self.lines.recv().await {
                self.printed.push(line);
            }
        };
        timeout(PATIENCE, rest).await.expect("it ends in time");
        assert!(self.child.wait().expect("it has ended").success());
        let changes = self.printed.windows(2).all(|pair| pair[0] != pair[1]);
        assert!(changes, "{:?}", self.printed);
        let tokens = self.printed.iter().filter_map(|line| line["token"].as_str());
        let mut tokens: Vec<FencingToken> = tokens.map(parse_token).collect();
        assert!(tokens.is_sorted(), "{tokens:?}");
        tokens.dedup();
        tokens
    }
}
