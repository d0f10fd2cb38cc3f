//! The least of ONC RPC (RFC 5531): ask a server over TCP whether it speaks a version of a program, and where.
//!
//! The kernel mounts NFS by itself, but patiently: a server that is away is waited for. These calls go first, each
//! with a deadline, and their answers say what is wrong.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The programs that are asked for.
pub(super) const PORTMAPPER: u32 = 100_000;
pub(super) const NFS: u32 = 100_003;
pub(super) const MOUNT: u32 = 100_005;

/// One try to connect: a packet that was lost is sent again after one, three and seven seconds.
const TRY: Duration = Duration::from_secs(4);
/// An answer to any of these calls has a few words.
const LONGEST: usize = 4096;

/// What a server says to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It did it; the result.
    Done(Vec<u8>),
    /// It has no such program.
    NoProgram,
    /// It has others than the version that was asked for: from, to.
    Versions(u32, u32),
    /// It refuses, by the number of its reason.
    Refused(u32),
}

/// Connect to a server until `deadline`, however often that fails before.
///
/// # Errors
/// The last failure.
pub(super) fn connect(server: IpAddr, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let address = SocketAddr::new(server, port);
    let mut told = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // At least one try, whatever the time.
        let limit = left.clamp(Duration::from_millis(100), TRY);
        let error = match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        // That nothing came in time says less than what came before.
        if error.kind() != io::ErrorKind::TimedOut || told.is_none() {
            told = Some(error);
        }
        match told.take() {
            Some(error) if Instant::now() >= deadline => return Err(error),
            kept => told = kept,
        }
        std::thread::sleep(Duration::from_millis(250).min(left));
    }
}

/// Call a procedure over a connection, and hear its answer before `deadline`.
///
/// # Errors
/// The server does not answer in time, or makes no sense.
pub(super) fn call(
    stream: &mut TcpStream,
    (program, version, procedure): (u32, u32, u32),
    arguments: &[u32],
    deadline: Instant,
) -> io::Result<Answer> {
    const TRANSACTION: u32 = 0x636f_7772;
    const CALL: u32 = 0;
    const RPC_VERSION: u32 = 2;
    // Neither a credential nor a verifier: AUTH_NONE of no bytes, each.
    let head = [
        TRANSACTION,
        CALL,
        RPC_VERSION,
        program,
        version,
        procedure,
        0,
        0,
        0,
        0,
    ];
    let message: Vec<u8> = head
        .iter()
        .chain(arguments)
        .flat_map(|word| word.to_be_bytes())
        .collect();
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        left.max(Duration::from_millis(100))
    };
    stream.set_write_timeout(Some(left()))?;
    let len = u32::try_from(message.len()).unwrap_or_default();
    stream.write_all(&(LAST | len).to_be_bytes())?;
    stream.write_all(&message)?;
    let record = record(&mut Until(stream, deadline)).map_err(|error| match error.kind() {
        // What a socket calls its timeout.
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })?;
    understood(&record, TRANSACTION).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A connection that is read until then, however slowly it comes.
struct Until<'a>(&'a mut TcpStream, Instant);

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.1.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.set_read_timeout(Some(left))?;
        self.0.read(buffer)
    }
}

/// Marks a record's last fragment.
const LAST: u32 = 1 << 31;

/// A whole record.
fn record(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut record = Vec::new();
    loop {
        let mut mark = [0; 4];
        stream.read_exact(&mut mark)?;
        let mark = u32::from_be_bytes(mark);
        let len = usize::try_from(mark & !LAST).unwrap_or(usize::MAX);
        let start = record.len();
        let is_endless = len == 0 && mark & LAST == 0;
        if is_endless || len > LONGEST - start {
            return Err(io::ErrorKind::InvalidData.into());
        }
        record.resize(start + len, 0);
        stream.read_exact(record.get_mut(start..).unwrap_or_default())?;
        if mark & LAST != 0 {
            return Ok(record);
        }
    }
}

/// What an answer says, if it is one to `transaction`.
fn understood(record: &[u8], transaction: u32) -> Option<Answer> {
    const REPLY: u32 = 1;
    let mut rest = record;
    let mut word = || {
        let (word, more) = rest.split_first_chunk::<4>()?;
        rest = more;
        Some(u32::from_be_bytes(*word))
    };
    if (word()?, word()?) != (transaction, REPLY) {
        return None;
    }
    if word()? != 0 {
        return Some(Answer::Refused(word()?));
    }
    let _flavor = word()?;
    let verifier = usize::try_from(word()?).ok()?.checked_next_multiple_of(4)?;
    rest = rest.get(verifier..)?;
    let mut word = || {
        let (word, more) = rest.split_first_chunk::<4>()?;
        rest = more;
        Some(u32::from_be_bytes(*word))
    };
    match word()? {
        0 => Some(Answer::Done(rest.to_vec())),
        1 => Some(Answer::NoProgram),
        2 => Some(Answer::Versions(word()?, word()?)),
        other => Some(Answer::Refused(other)),
    }
}

/// The TCP port of a program, as the server's rpcbind says; `None` if it has none.
///
/// # Errors
/// Its rpcbind cannot be reached, or does not answer, before `deadline`.
pub(super) fn port_of(
    server: IpAddr,
    program: u32,
    version: u32,
    deadline: Instant,
) -> io::Result<Option<u16>> {
    const RPCBIND: u16 = 111;
    // PMAPPROC_GETPORT knows IPv4 only, where a program may have another port than with IPv6: RPCBPROC_GETADDR.
    const GET_PORT: (u32, u32, u32) = (PORTMAPPER, 2, 3);
    const GET_ADDRESS: (u32, u32, u32) = (PORTMAPPER, 4, 3);
    const TCP: u32 = 6;
    const TCP6: u32 = u32::from_be_bytes(*b"tcp6");
    let mut stream = connect(server, RPCBIND, deadline)?;
    let (procedure, arguments) = match server {
        IpAddr::V4(_) => (GET_PORT, vec![program, version, TCP, 0]),
        // A network's name of four bytes, and neither an address nor an owner.
        IpAddr::V6(_) => (GET_ADDRESS, vec![program, version, 4, TCP6, 0, 0]),
    };
    match (call(&mut stream, procedure, &arguments, deadline)?, server) {
        (Answer::Done(port), IpAddr::V4(_)) => {
            let port = port.first_chunk().map(|port| u32::from_be_bytes(*port));
            let port = port.and_then(|port| u16::try_from(port).ok());
            Ok(port.filter(|&port| port > 0))
        }
        (Answer::Done(address), IpAddr::V6(_)) => Ok(port_in(&address)),
        _ => Ok(None),
    }
}

/// The port in a string that ends in its two bytes as numbers, `::.8.1` (RFC 5665).
fn port_in(address: &[u8]) -> Option<u16> {
    let (len, rest) = address.split_first_chunk()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let text = std::str::from_utf8(rest.get(..len)?).ok()?;
    let mut fields = text.rsplit('.');
    let (low, high): (u8, u8) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(u16::from_be_bytes([high, low])).filter(|&port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn an_answer_is_understood_and_nonsense_is_not() {
        for (words, expected) in [
            (
                vec![7, 1, 0, 0, 0, 0, 2049],
                Some(Answer::Done(bytes(&[2049]))),
            ),
            // With a verifier of three bytes, padded.
            (
                vec![7, 1, 0, 5, 3, 0xabcd_ef00, 0],
                Some(Answer::Done(vec![])),
            ),
            (vec![7, 1, 0, 0, 0, 1], Some(Answer::NoProgram)),
            (vec![7, 1, 0, 0, 0, 2, 3, 3], Some(Answer::Versions(3, 3))),
            (vec![7, 1, 0, 0, 0, 3], Some(Answer::Refused(3))),
            (vec![7, 1, 1, 1, 5], Some(Answer::Refused(1))),
            (vec![8, 1, 0, 0, 0, 0], None),
            (vec![7, 0, 0, 0, 0, 0], None),
            (vec![7, 1, 0, 0, u32::MAX, 0], None),
            (vec![7, 1, 0, 0, 0], None),
            (vec![7], None),
            (vec![], None),
        ] {
            assert_eq!(understood(&bytes(&words), 7), expected, "{words:?}");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut words = vec![7, 1, 0];
            words.extend((0..random.usize(..6)).map(|_| random.u32(..8)));
            let _ = understood(&bytes(&words), 7);
        }
    }

    #[test]
    fn a_port_is_the_end_of_an_address() {
        let said = |text: &str| {
            let mut said = bytes(&[u32::try_from(text.len()).unwrap()]);
            said.extend_from_slice(text.as_bytes());
            said.resize(said.len().next_multiple_of(4), 0);
            said
        };
        for (text, port) in [
            ("::.8.1", Some(2049)),
            ("fd76::1.130.67", Some(33347)),
            ("0.0.0.0.0.111", Some(111)),
            ("", None),
            ("::.0.0", None),
            ("::.256.1", None),
            ("1", None),
        ] {
            assert_eq!(port_in(&said(text)), port, "{text}");
        }
        assert_eq!(port_in(&[0, 0, 1, 0, b'.']), None);
    }

    #[test]
    fn a_record_may_come_in_pieces_and_must_not_be_endless() {
        let pieces = [&[0, 0, 0, 1, 9][..], &[0x80, 0, 0, 2, 8, 7]].concat();
        assert_eq!(record(&mut pieces.as_slice()).unwrap(), [9, 8, 7]);
        assert!(record(&mut [0; 64].as_slice()).is_err(), "no end in sight");
        let long = [0x7f, 0xff, 0xff, 0xff];
        assert!(record(&mut long.as_slice()).is_err());
        let endless = [0, 0, 8, 0]
            .into_iter()
            .chain(vec![1; 2048])
            .collect::<Vec<u8>>()
            .repeat(3);
        assert!(record(&mut endless.as_slice()).is_err());
    }

    #[test]
    fn a_server_that_says_nothing_is_waited_for_until_the_deadline_only() {
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = mute.local_addr().unwrap().port();
        let started = Instant::now();
        let deadline = started + Duration::from_millis(300);
        let mut stream = connect([127, 0, 0, 1].into(), port, deadline).unwrap();
        let error = call(&mut stream, (NFS, 4, 0), &[], deadline).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop((stream, mute));
        let error = connect([127, 0, 0, 1].into(), port, deadline).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
