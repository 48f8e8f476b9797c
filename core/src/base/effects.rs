//! Where a machine puts what it wants done.

/// A machine's outlet: each effect goes straight into the mesh's queue, or, in a unit test, into a
/// list.
pub struct Effects<'a, E> {
    sink: &'a mut dyn FnMut(E),
}

impl<'a, E> Effects<'a, E> {
    /// An outlet into `sink`.
    pub fn new(sink: &'a mut dyn FnMut(E)) -> Self {
        Effects { sink }
    }

    /// Asks for `effect`. Effects happen in the order in which they were asked for.
    pub fn push(&mut self, effect: E) {
        (self.sink)(effect);
    }
}
