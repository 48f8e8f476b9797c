//! Programs as bytes: read by the drivers, written by the seeds.

/// The input, read from the front. Behind its end it is all zeros.
#[derive(Clone, Debug)]
pub struct Tape<'a> {
    rest: &'a [u8],
}

impl<'a> Tape<'a> {
    /// Reads this input.
    pub fn new(data: &'a [u8]) -> Self {
        Tape { rest: data }
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *byte
    }

    /// A choice among `count`, which is not zero.
    pub fn pick(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    /// A choice in a list; none if it is empty.
    pub fn pick_in<'l, T>(&mut self, list: &'l [T]) -> Option<&'l T> {
        let byte = usize::from(self.byte());
        list.get(byte.checked_rem(list.len())?)
    }

    /// A number of two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number that is small, or at an edge of what eight bytes can hold.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX - 1,
            253 => u64::from(u32::MAX),
            252 => 1 << 63,
            251 => u64::from(self.u16()) << 24,
            250 => u64::from(self.u16()),
            small => u64::from(small),
        }
    }

    /// As many bytes as the next byte says, or as there are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(count);
        self.rest = rest;
        bytes
    }
}

/// Writes what [`Tape`] reads.
#[derive(Clone, Debug, Default)]
pub struct Program(Vec<u8>);

impl Program {
    /// An empty program.
    pub fn new() -> Self {
        Program::default()
    }

    /// Adds a step and its operands.
    pub fn step(mut self, op: u8, operands: &[u8]) -> Self {
        self.0.push(op);
        self.0.extend_from_slice(operands);
        self
    }

    /// Adds bytes for [`Tape::bytes`]; at most 255.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.push(u8::try_from(bytes.len()).expect("at most 255 bytes"));
        self.0.extend_from_slice(bytes);
        self
    }

    /// The program as input.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
