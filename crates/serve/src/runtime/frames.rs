//! Frames to and from a worker (`worker/frames.py` has their form).
//!
//! Every transfer has a deadline, so a worker that hangs cannot hold a thread
//! of ours. What a worker writes into shared memory is copied before it is
//! looked at: nothing of it changes under our eyes, and nothing is mapped that
//! it could take away.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, sendmsg, setsockopt, socketpair};
use nix::sys::time::TimeVal;

/// Longest answer: room for a 64 MiB request's worth many times over.
const JSON_BYTES_MAX: usize = 16 << 20;
const BINARY_BYTES_MAX: usize = 1 << 30;
/// Data of this size goes through memory that both have: less is copied through
/// the socket as fast, more is not worth being kept.
const SHARED_BYTES: RangeInclusive<usize> = 256 << 10..=16 << 20;
/// Where tensors begin in it.
pub const ALIGN: usize = 64;
/// The worker's class still holds what came in shared memory.
const KEPT: u32 = 1;
/// How often a wait looks at its deadline.
const TICK: TimeVal = TimeVal::new(0, 100_000);
/// Most answers come whole in one read of this size.
const BUFFER_BYTES: usize = 64 << 10;
const HEAD_BYTES: usize = 16;

pub struct Frame {
    pub json: Vec<u8>,
    /// Tensors one after the other.
    pub binary: Vec<u8>,
    /// Each begins at a multiple of [`ALIGN`].
    pub is_aligned: bool,
}

#[derive(Debug)]
pub enum Broken {
    /// Nothing of the frame was taken.
    Gone,
    /// The other end is closed.
    Closed,
    TimedOut,
    /// It sent something that is no frame; what, in words.
    Garbled(String),
}

pub struct Channel {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// What we write to, its size, and whether we may.
    ours: File,
    ours_bytes: usize,
    may_lend: bool,
    /// What the worker writes to.
    theirs: File,
}

impl Channel {
    /// And the files that the worker needs: its end of the socket, the file
    /// that we write to, and the one that it writes to.
    pub fn new() -> io::Result<(Self, [OwnedFd; 3])> {
        let (socket, far) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&socket, ReceiveTimeout, &TICK)?;
        setsockopt(&socket, SendTimeout, &TICK)?;
        let ours = File::from(memfd_create(c"requests", MFdFlags::MFD_CLOEXEC)?);
        let theirs = File::from(memfd_create(c"answers", MFdFlags::MFD_CLOEXEC)?);
        let given = [far, ours.try_clone()?.into(), theirs.try_clone()?.into()];
        let buffer = vec![0; BUFFER_BYTES];
        Ok((Self { socket, buffer, ours, ours_bytes: 0, may_lend: true, theirs }, given))
    }

    /// Whether something is there to be read, if only the end.
    pub fn stirs(&self) -> bool {
        poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) != Ok(0)
    }

    pub fn send(&mut self, json: &[u8], parts: &[&[u8]], deadline: Instant) -> Result<(), Broken> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let padded: usize = parts.iter().map(|part| part.len().next_multiple_of(ALIGN)).sum();
        let is_shared = SHARED_BYTES.contains(&padded) && self.may_lend;
        let (inline, shared) = if is_shared { (0, padded) } else { (length, 0) };
        let number = |n: usize| u32::try_from(n).map(u32::to_le_bytes);
        let (Ok(json_length), Ok(inline), Ok(shared)) = (number(json.len()), number(inline), number(shared)) else {
            return Err(Broken::Garbled("nothing, since the request has more than 4 GiB".into()));
        };
        let head = [json_length, inline, shared, [0; 4]].concat();
        let mut slices = vec![IoSlice::new(&head), IoSlice::new(json)];
        if is_shared {
            let lent = self.lend(parts, padded);
            lent.map_err(|e| Broken::Garbled(format!("nothing: no memory can be shared ({e})")))?;
        } else {
            slices.extend(parts.iter().map(|part| IoSlice::new(part)));
        }
        self.write(&mut slices, deadline)
    }

    /// Writes the parts into the memory that the worker reads.
    fn lend(&mut self, parts: &[&[u8]], length: usize) -> io::Result<()> {
        if self.ours_bytes < length {
            self.ours_bytes = length.next_power_of_two();
            self.ours.set_len(self.ours_bytes as u64)?;
        }
        let mut at = 0;
        for part in parts {
            self.ours.write_all_at(part, at as u64)?;
            at += part.len().next_multiple_of(ALIGN);
        }
        Ok(())
    }

    fn write(&self, mut slices: &mut [IoSlice<'_>], deadline: Instant) -> Result<(), Broken> {
        let mut is_first = true;
        while slices.iter().any(|slice| !slice.is_empty()) {
            match sendmsg::<()>(self.socket.as_raw_fd(), slices, &[], MsgFlags::MSG_NOSIGNAL, None) {
                Ok(n) => {
                    IoSlice::advance_slices(&mut slices, n);
                    is_first = false;
                }
                Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < deadline => {}
                Err(Errno::EAGAIN | Errno::EINTR) => return Err(Broken::TimedOut),
                Err(_) if is_first => return Err(Broken::Gone),
                Err(_) => return Err(Broken::Closed),
            }
        }
        Ok(())
    }

    pub fn receive(&mut self, deadline: Instant) -> Result<Frame, Broken> {
        let mut got = 0;
        while got < HEAD_BYTES {
            got += read(&self.socket, &mut self.buffer[got..], deadline)?;
        }
        let number = |at: usize| {
            let bytes = self.buffer.get(4 * at..).and_then(|b| b.first_chunk());
            bytes.map_or(0, |b| u32::from_le_bytes(*b))
        };
        let [json, inline, shared] = [0, 1, 2].map(|at| number(at) as usize);
        if number(3) & KEPT != 0 {
            self.may_lend = false;
        }
        let data = inline.saturating_add(shared);
        if json > JSON_BYTES_MAX || data > BINARY_BYTES_MAX {
            return Err(Broken::Garbled(format!(
                "an answer of {} bytes; at most {BINARY_BYTES_MAX} are accepted",
                json.saturating_add(data)
            )));
        }
        let mut have = &self.buffer[HEAD_BYTES..got];
        let json = self.rest(&mut have, json, deadline)?;
        let binary = self.rest(&mut have, inline, deadline)?;
        if shared == 0 {
            return Ok(Frame { json, binary, is_aligned: false });
        }
        let mut binary = vec![0; shared];
        let copied = self.theirs.read_exact_at(&mut binary, 0);
        copied.map_err(|e| Broken::Garbled(format!("more than is in the memory that it shares ({e})")))?;
        Ok(Frame { json, binary, is_aligned: true })
    }

    /// So many bytes: what is left of `have`, and then from the socket.
    fn rest(&self, have: &mut &[u8], length: usize, deadline: Instant) -> Result<Vec<u8>, Broken> {
        let (now, later) = have.split_at(have.len().min(length));
        *have = later;
        let mut bytes = now.to_vec();
        if bytes.len() < length {
            let mut filled = bytes.len();
            bytes.resize(length, 0);
            while filled < length {
                filled += read(&self.socket, &mut bytes[filled..], deadline)?;
            }
        }
        Ok(bytes)
    }
}

/// At least a byte.
fn read(socket: &OwnedFd, to: &mut [u8], deadline: Instant) -> Result<usize, Broken> {
    loop {
        match recv(socket.as_raw_fd(), to, MsgFlags::empty()) {
            Ok(0) => return Err(Broken::Closed),
            Ok(n) => return Ok(n),
            Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < deadline => {}
            Err(Errno::EAGAIN | Errno::EINTR) => return Err(Broken::TimedOut),
            Err(_) => return Err(Broken::Closed),
        }
    }
}
