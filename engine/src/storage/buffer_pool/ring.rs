//! A ring of frames that one big scan or bulk load recycles, so that it does not sweep the pool.

/// Belongs to one scan; frames are remembered by number and may be lost to others at any time.
#[derive(Debug)]
pub struct Ring {
    frames: Vec<u32>,
    next: usize,
    size: usize,
}

impl Ring {
    /// For reading a table larger than a quarter of the pool: 256 KiB, small enough for the processor's cache.
    pub fn for_scan() -> Ring {
        Ring::of(32)
    }
    /// For COPY and other bulk writes: 16 MiB, so that the log is mostly flushed before a frame comes round again.
    pub fn for_bulk_write(pool_frames: usize) -> Ring {
        Ring::of((pool_frames / 8).clamp(1, 2048))
    }
    fn of(size: usize) -> Ring {
        Ring {
            frames: Vec::with_capacity(size),
            next: 0,
            size,
        }
    }
    /// The frame to reuse next; `None` until the ring is full.
    pub(super) fn oldest(&self) -> Option<u32> {
        if self.frames.len() < self.size {
            None
        } else {
            self.frames.get(self.next).copied()
        }
    }
    /// `frame` takes the place of the oldest.
    pub(super) fn advance(&mut self, frame: u32) {
        if self.frames.len() < self.size {
            self.frames.push(frame);
        } else {
            self.frames[self.next] = frame;
            self.next = (self.next + 1) % self.size;
        }
    }
}
