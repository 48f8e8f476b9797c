//! A campaign as JUnit XML, which CI systems show: a test case for each seed.

use std::fmt::Write;

use serde_json::Value;

use crate::checks::seconds;

/// One seed of a campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it is one of.
    suite: String,
    seed: u64,
    cpu_seconds: f64,
    /// What went wrong: its kind, in a line, and in full.
    failure: Option<(String, String, String)>,
}

impl Case {
    /// Reads the JSON line of a run. Nothing, if it is none.
    pub fn of_line(line: &Value) -> Option<Case> {
        let text = |name: &str| line[name].as_str();
        let (fidelity, crypto) = (text("fidelity")?, text("crypto")?);
        let verdict = text("verdict")?;
        let seed = line["seed"].as_u64()?;
        let is_frames = fidelity == "frames";
        let suite = if is_frames { fidelity.into() } else { format!("{fidelity}, {crypto}") };
        let again = match is_frames {
            true => format!("cargo sim run --seed {seed} --fidelity {fidelity}"),
            false => format!("cargo sim run --seed {seed} --fidelity {fidelity} --crypto {crypto}"),
        };
        let at = |value: &Value| seconds(value["at"].as_u64().unwrap_or(0));
        let failure = match verdict {
            "clean" => None,
            "crash" => {
                let message = text("message")?.to_string();
                let full = format!("at {}: {message}\nreproduce: {again}", at(line));
                Some((verdict.to_string(), message, full))
            }
            _ => {
                let mut full = String::new();
                let violations = line["violations"].as_array()?;
                for violation in violations {
                    let (rule, what) = (violation["rule"].as_str()?, violation["what"].as_str()?);
                    let _ = writeln!(full, "at {}: {rule}: {what}", at(violation));
                }
                let rule = violations.first()?["rule"].as_str()?.to_string();
                Some((verdict.to_string(), rule, full + "reproduce: " + &again))
            }
        };
        let cpu_seconds = line["cpu_nanos"].as_f64()? / 1e9;
        Some(Case { suite, seed, cpu_seconds, failure })
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no way to write other control characters.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The cases as a file, by suite and seed.
pub fn xml(cases: &[Case]) -> String {
    let mut cases: Vec<&Case> = cases.iter().collect();
    cases.sort_by(|a, b| (&a.suite, a.seed).cmp(&(&b.suite, b.seed)));
    let count = |cases: &[&Case]| {
        let failures = cases.iter().filter(|case| case.failure.is_some()).count();
        let time: f64 = cases.iter().map(|case| case.cpu_seconds).sum();
        format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{time:.3}\"", cases.len())
    };
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(text, "<testsuites name=\"dunlin-sim\" {}>", count(&cases));
    for suite in cases.chunk_by(|a, b| a.suite == b.suite) {
        let name = escaped(&suite[0].suite);
        let _ = writeln!(text, "  <testsuite name=\"{name}\" {}>", count(suite));
        for case in suite {
            let head = format!(
                "    <testcase classname=\"dunlin-sim.{name}\" name=\"seed {}\" time=\"{:.3}\"",
                case.seed, case.cpu_seconds
            );
            let _ = match &case.failure {
                None => writeln!(text, "{head}/>"),
                Some((kind, message, full)) => writeln!(
                    text,
                    "{head}>\n      <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>",
                    escaped(kind),
                    escaped(message),
                    escaped(full)
                ),
            };
        }
        let _ = writeln!(text, "  </testsuite>");
    }
    text + "</testsuites>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn clean_and_failing_seeds_become_cases() {
        let clean = json!({"fidelity": "packets", "crypto": "tls", "verdict": "clean", "seed": 9,
            "cpu_nanos": 1_500_000_000u64});
        let safety = json!({"fidelity": "frames", "crypto": "null", "verdict": "safety", "seed": 3,
            "cpu_nanos": 500_000_000u64, "violations":
            [{"at": 2_000_000_000u64, "rule": "a < b", "what": "\"x\" & y\u{1}"}]});
        let crash = json!({"fidelity": "frames", "crypto": "null", "verdict": "crash", "seed": 1,
            "cpu_nanos": 0, "at": 7, "message": "panicked"});
        let cases: Vec<_> = [clean, safety, crash].iter().filter_map(Case::of_line).collect();
        assert_eq!(cases.len(), 3);
        let text = xml(&cases);
        let expected = [
            "<testsuites name=\"dunlin-sim\" tests=\"3\" failures=\"2\" errors=\"0\" time=\"2.000\">",
            "<testsuite name=\"frames\" tests=\"2\" failures=\"2\"",
            "<failure type=\"safety\" message=\"a &lt; b\">at 2.000000s: a &lt; b: &quot;x&quot; &amp; y\u{fffd}\nreproduce: cargo sim run --seed 3 --fidelity frames</failure>",
            "<testcase classname=\"dunlin-sim.packets, tls\" name=\"seed 9\" time=\"1.500\"/>",
        ];
        for part in expected {
            assert!(text.contains(part), "{part}\n{text}");
        }
        // Cases are in the order of their seeds.
        assert!(text.find("seed 1\"") < text.find("seed 3\""));
        assert_eq!(Case::of_line(&json!({"type": "summary"})), None);
    }
}
