//! A schedule as a file: JSON with a line for each node, operation and fault, so that people can read, edit and
//! compare it. What has its default is left out.

use std::io;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::Formatter;

use super::{Deed, Fault, Operation, PROGRAM, Schedule, Trouble, VERSION};

/// What every version of the format has.
#[derive(Deserialize)]
struct Head {
    version: u32,
    #[serde(default)]
    program: String,
}

impl Schedule {
    /// Reads a schedule from JSON and checks that it makes sense. Operations and faults may stand in any order.
    ///
    /// # Errors
    ///
    /// Says in which line, and what to do, when it is not well-formed, of another version of the format, has a
    /// field that there is not, or names a node that it does not have.
    pub fn from_json(text: &str) -> Result<Schedule, String> {
        let at_line = |error: serde_json::Error| {
            let said = error.to_string();
            let what = said.split(" at line ").next().unwrap_or(&said);
            format!("line {}: {what}", error.line())
        };
        let head: Head = serde_json::from_str(text).map_err(at_line)?;
        if head.version != VERSION {
            let by = match head.program.is_empty() {
                true => String::new(),
                false => format!(", written by {}", head.program),
            };
            let line = line_of(text, &["version"]);
            return Err(format!(
                "line {line}: the file has version {} of the format{by}; {PROGRAM} reads version {VERSION}. \
                 Replay it with the program that wrote it, or draw it again: cargo sim schedule --seed SEED",
                head.version
            ));
        }
        let mut schedule: Schedule = serde_json::from_str(text).map_err(at_line)?;
        if let Err((place, what)) = schedule.check() {
            let place: Vec<&str> = place.split('.').collect();
            return Err(format!("line {}: {what}", line_of(text, &place)));
        }
        schedule.operations.sort_by_key(|operation| operation.at_us);
        schedule.faults.sort_by_key(|fault| fault.at_us);
        Ok(schedule)
    }

    /// The schedule as JSON, for people.
    pub fn to_json(&self) -> String {
        let serde_json::Value::Object(mut head) = serde_json::to_value(self).expect("plain data")
        else {
            unreachable!("a schedule is an object")
        };
        let mut fields = Vec::new();
        let names = ["version", "program", "comment", "seed", "fidelity", "crypto", "duration_us"];
        for name in names {
            fields.extend(head.remove(name).map(|value| (name, line(&value))));
        }
        if head.contains_key("network") {
            fields.push(("network", line(&self.network)));
        }
        if let Some(disk_sync) = &self.disk_sync {
            fields.push(("disk_sync", line(disk_sync)));
        }
        fields.extend(self.rights.as_ref().map(|rights| ("rights", line(rights))));
        if !self.acceptors.is_empty() {
            fields.push(("acceptors", line(&self.acceptors)));
        }
        fields.push(("nodes", lines(&self.nodes)));
        fields.push(("operations", lines(&self.operations)));
        fields.push(("faults", lines(&self.faults)));
        let fields: Vec<_> =
            fields.into_iter().map(|(name, value)| format!("  \"{name}\": {value}")).collect();
        format!("{{\n{}\n}}\n", fields.join(",\n"))
    }
}

/// A value in one line, with room to breathe.
fn line(value: &impl Serialize) -> String {
    struct Spaced;
    impl Formatter for Spaced {
        fn begin_array_value<W: ?Sized + io::Write>(
            &mut self,
            writer: &mut W,
            first: bool,
        ) -> io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }

        fn begin_object_key<W: ?Sized + io::Write>(
            &mut self,
            writer: &mut W,
            first: bool,
        ) -> io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }

        fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
            writer.write_all(b": ")
        }
    }
    let mut out = Vec::new();
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced))
        .expect("plain data");
    String::from_utf8(out).expect("JSON is text")
}

/// A list with a line for each.
fn lines<T: Serialize>(values: &[T]) -> String {
    if values.is_empty() {
        return "[]".into();
    }
    let values: Vec<_> = values.iter().map(|value| format!("    {}", line(value))).collect();
    format!("[\n{}\n  ]", values.join(",\n"))
}

/// The line in which a value begins, by its way from the top: names, and numbers in lists. The last line that
/// could be found of it.
fn line_of(text: &str, way: &[&str]) -> usize {
    let (mut line, mut found) = (1, 1);
    // For each level that is open: whether it is a list, and the present name or number in it.
    let mut levels: Vec<(bool, String)> = Vec::new();
    let mut matched = 0;
    let mut bytes = text.bytes().peekable();
    let mut is_key = false;
    let mut look = |levels: &[(bool, String)], line: usize| {
        let here = levels.len();
        let is_it = here == matched + 1
            && here <= way.len()
            && levels.iter().zip(way).all(|((_, at), wanted)| at == wanted);
        if is_it {
            matched += 1;
            found = line;
        }
    };
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => line += 1,
            b'{' => {
                levels.push((false, String::new()));
                is_key = true;
            }
            b'[' => {
                levels.push((true, "0".into()));
                while let Some(blank) = bytes.next_if(u8::is_ascii_whitespace) {
                    line += usize::from(blank == b'\n');
                }
                look(&levels, line);
            }
            b'}' | b']' => {
                levels.pop();
                is_key = false;
            }
            b',' => {
                while let Some(blank) = bytes.next_if(u8::is_ascii_whitespace) {
                    line += usize::from(blank == b'\n');
                }
                if let Some((is_list, at)) = levels.last_mut() {
                    is_key = !*is_list;
                    if *is_list {
                        *at = (at.parse::<usize>().unwrap_or(0) + 1).to_string();
                        look(&levels, line);
                    }
                }
            }
            b'"' => {
                let mut said = Vec::new();
                while let Some(byte) = bytes.next_if(|byte| *byte != b'"') {
                    said.push(byte);
                    if byte == b'\\' {
                        said.extend(bytes.next());
                    }
                }
                bytes.next();
                if let (true, Some((_, at))) = (is_key, levels.last_mut()) {
                    *at = String::from_utf8_lossy(&said).into_owned();
                    look(&levels, line);
                    is_key = false;
                }
            }
            _ => {}
        }
    }
    found
}

/// An operation and a fault are written as one object: when and where, and what under its own name.
/// Derived code for that would lose the line of an error and let unknown fields pass.
struct Tagged<'a, A> {
    name: &'a str,
    map: &'a mut A,
}

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for Tagged<'_, A> {
    type Error = A::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), A::Error> {
        let name: StrDeserializer<'_, A::Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

/// Fields of a variant.
struct Fields<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Fields<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_map(self.0)
    }
}

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for Tagged<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.map.next_value()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.map.next_value_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(Fields(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(Fields(visitor))
    }
}

/// One object of numbers with names, and one thing under its own name.
struct Line<T> {
    numbers: [&'static str; 2],
    what: std::marker::PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Line<T> {
    type Value = ([u64; 2], T);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, second] = self.numbers;
        write!(f, "an object with `{first}`, `{second}` and what happens")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error;
        let mut numbers = [None; 2];
        let mut what = None;
        while let Some(name) = map.next_key::<String>()? {
            match self.numbers.iter().position(|number| *number == name) {
                Some(index) => numbers[index] = Some(map.next_value()?),
                None if what.is_some() => {
                    return Err(A::Error::custom(format!(
                        "unknown field `{name}`: a line has `{}`, `{}` and one thing that happens",
                        self.numbers[0], self.numbers[1]
                    )));
                }
                None => {
                    let tagged = TaggedDeserializer(Tagged { name: &name, map: &mut map });
                    what = Some(T::deserialize(tagged)?);
                }
            }
        }
        let number = |index: usize| {
            numbers[index].ok_or_else(|| A::Error::missing_field(self.numbers[index]))
        };
        let what = what.ok_or_else(|| A::Error::custom("it does not say what happens"))?;
        Ok(([number(0)?, number(1)?], what))
    }
}

struct TaggedDeserializer<'a, A>(Tagged<'a, A>);

impl<'de, A: MapAccess<'de>> Deserializer<'de> for TaggedDeserializer<'_, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_enum(self.0)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let line = Line::<Deed> { numbers: ["at_us", "node"], what: std::marker::PhantomData };
        let ([at_us, node], what) = deserializer.deserialize_map(line)?;
        let node = u16::try_from(node)
            .map_err(|_| serde::de::Error::custom(format!("there is no node {node}")))?;
        Ok(Operation { at_us, node, what })
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let numbers = ["at_us", "until_us"];
        let line = Line::<Trouble> { numbers, what: std::marker::PhantomData };
        let ([at_us, until_us], what) = deserializer.deserialize_map(line)?;
        Ok(Fault { at_us, until_us, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
  "version": 2,
  "seed": 1,
  "fidelity": "frames",
  "duration_us": 9000000,
  "nodes": [
    {"keeps": [1]},
    {"services": [0]}
  ],
  "operations": [
    {"at_us": 3000000, "node": 0, "call": {"service": 0, "timeout_ms": 50}},
    {"at_us": 2000000, "node": 1, "call": {"service": 0, "timeout_ms": 50, "action": {"sleep": {"ms": 7}}}}
  ],
  "faults": [
    {"at_us": 2000000, "until_us": 3000000, "crash": {"node": 1}}
  ]
}"#;

    fn error(from: &str, to: &str) -> String {
        assert!(FILE.contains(from));
        Schedule::from_json(&FILE.replacen(from, to, 1)).unwrap_err()
    }

    #[test]
    fn a_file_by_hand_is_read_and_put_in_order() {
        let schedule = Schedule::from_json(FILE).expect("well-formed");
        let times: Vec<_> = schedule.operations.iter().map(|operation| operation.at_us).collect();
        assert_eq!(times, [2_000_000, 3_000_000]);
        assert_eq!(schedule.faults[0].what, Trouble::Crash { node: 1 });
        assert_eq!(Schedule::from_json(&schedule.to_json()), Ok(schedule.clone()));
        // Each node, operation and fault has a line of its own.
        assert_eq!(schedule.to_json().lines().count(), FILE.lines().count());
    }

    const CRASH: &str = "\"crash\": {\"node\": 1}";

    fn acceptors(members: &str, told: &str) -> String {
        format!("\"acceptors\": {{\"members\": {members}, \"told\": {told}}}")
    }

    #[test]
    fn other_acceptors_are_for_a_network_with_tokens_that_has_some() {
        let named = FILE.replace(CRASH, &acceptors("[0]", "[1]"));
        let with_rights = named.replace("\"nodes\"", "\"rights\": {},\n  \"nodes\"");
        let error = Schedule::from_json(&with_rights).unwrap_err();
        assert!(error.starts_with("line 16: ") && error.contains("no `acceptors`"), "{error}");
        let whole = with_rights.replace("\"nodes\"", "\"acceptors\": [1],\n  \"nodes\"");
        let schedule = Schedule::from_json(&whole).expect("well-formed");
        assert_eq!(schedule.faults[0].what, Trouble::Acceptors { members: vec![0], told: vec![1] });
        assert_eq!(Schedule::from_json(&schedule.to_json()), Ok(schedule));
        let twice = whole.replace("\"members\": [0]", "\"members\": [0, 1, 1]");
        let error = Schedule::from_json(&twice).unwrap_err();
        assert!(error.starts_with("line 17: ") && error.contains("distinct nodes, not"), "{error}");
        let several = whole.replace("{},\n", "{\"networks\": [[0], [0, 1]]},\n");
        let error = Schedule::from_json(&several).unwrap_err();
        assert!(error.contains("one network: leave out `rights.networks`"), "{error}");
    }

    #[test]
    fn errors_say_the_line_and_what_to_do() {
        let cases = [
            ("\"version\": 2", "\"version\": 9", "line 2: ", "reads version 2"),
            ("\"seed\"", "\"sead\"", "line 3: ", "unknown field `sead`, expected one of"),
            ("\"keeps\": [1]", "\"keeps\": [7]", "line 7: ", "node 7"),
            ("\"services\"", "\"servces\"", "line 8: ", "unknown field `servces`"),
            ("\"node\": 0, \"call\"", "\"node\": 5, \"call\"", "line 11: ", "node 5"),
            ("{\"ms\": 7}", "{\"ns\": 7}", "line 12: ", "unknown field `ns`, expected `ms`"),
            ("\"call\"", "\"cal\"", "line 11: ", "unknown variant `cal`, expected one of"),
            ("\"until_us\": 3000000, ", "", "line 15: ", "missing field `until_us`"),
            ("\"until_us\": 3", "\"until_us\": 1", "line 15: ", "ends before it begins"),
            ("{\"node\": 1}", "{\"node\": 4}", "line 15: ", "node 4"),
            (
                "\"call\": {\"service\": 0, \"timeout_ms\": 50}",
                "\"publish\": {\"topic\": \"a//b\"}",
                "line 11: ",
                "topic 'a//b'",
            ),
            ("{\"node\": 1}", "{\"node\": 1}, \"x\": 1", "line 15: ", "unknown field `x`"),
            (CRASH, &acceptors("[0]", "[4]"), "line 15: ", "node 4"),
            (CRASH, &acceptors("[0]", "[1]"), "line 15: ", "the schedule has no `rights`"),
            ("  ],\n  \"operations\"", "  ]\n  \"operations\"", "line 10: ", "expected `,`"),
        ];
        for (from, to, line, what) in cases {
            let error = error(from, to);
            assert!(error.starts_with(line) && error.contains(what), "{from} -> {to}: {error}");
        }
    }
}
