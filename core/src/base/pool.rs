//! Buffers that are used again once nobody holds a part of them.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Recent buffers, to spare the allocator. Giving 64 KiB back to it and asking for them again makes the
/// kernel unmap and clear the pages each time, which was measured to cost more than all else that
/// happens to a message of that size.
#[derive(Debug)]
pub struct BufferPool {
    recent: VecDeque<BytesMut>,
    buffers_max: usize,
}

impl BufferPool {
    /// A pool that remembers at most so many buffers.
    pub fn new(buffers_max: usize) -> Self {
        BufferPool { recent: VecDeque::new(), buffers_max }
    }

    /// An empty buffer with room for `bytes`. Follow with [`BufferPool::put_back`].
    pub fn take(&mut self, bytes: usize) -> BytesMut {
        if let Some(mut oldest) = self.recent.pop_front() {
            if oldest.try_reclaim(bytes) {
                return oldest;
            }
            // Somebody holds it still, or it is too small.
            self.recent.push_back(oldest);
        }
        BytesMut::with_capacity(bytes)
    }

    /// Takes what is left of a buffer whose contents were split off. It is used again once they are
    /// dropped.
    pub fn put_back(&mut self, rest: BytesMut) {
        debug_assert!(rest.is_empty(), "what is left holds nothing");
        if self.recent.len() == self.buffers_max {
            // The newest are the most likely to fit what comes next.
            self.recent.pop_front();
        }
        if self.buffers_max > 0 {
            self.recent.push_back(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_holds_a_part_of_it() {
        let mut pool = BufferPool::new(4);
        let fill = |pool: &mut BufferPool| {
            let mut buffer = pool.take(100);
            buffer.resize(100, 1);
            let contents = buffer.split().freeze();
            pool.put_back(buffer);
            contents
        };
        let first = fill(&mut pool);
        let place = first.as_ptr();
        let second = fill(&mut pool);
        assert_ne!(second.as_ptr(), place, "the first is still held");
        assert_eq!(first[..], [1; 100]);
        drop(first);
        // The second is the older one in the pool now, and held.
        let third = fill(&mut pool);
        let fourth = fill(&mut pool);
        assert!([third.as_ptr(), fourth.as_ptr()].contains(&place));
    }

    #[test]
    fn the_pool_is_bounded() {
        let mut pool = BufferPool::new(2);
        for _ in 0..5 {
            let mut buffer = BytesMut::with_capacity(10);
            buffer.resize(10, 0);
            drop(buffer.split());
            pool.put_back(buffer);
        }
        assert_eq!(pool.recent.len(), 2);
    }
}
