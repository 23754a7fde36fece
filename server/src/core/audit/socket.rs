//! The `socket` device: lines to a TCP, UDP or UNIX socket, where something collects them.
//!
//! A connection that has broken off is made anew before a line is lost to it, as far as that can be seen: what the
//! other side has not read when it dies is gone, which only a protocol with answers could tell.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use obol_mount::{Error, Result, duration};

use super::options::check_known;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests wait for this device.
const MAX_TIMEOUT: Duration = Duration::from_secs(8);

pub(super) struct Socket {
    kind: SocketKind,
    address: String,
    timeout: Duration,
    connection: Option<Connection>,
}

#[derive(Clone, Copy, PartialEq)]
enum SocketKind {
    Tcp,
    Udp,
    Unix,
}

enum Connection {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Self> {
        check_known(
            "socket",
            options,
            &["address", "socket_type", "write_timeout"],
        )?;
        let kind = match options.get("socket_type").map(String::as_str) {
            None | Some("tcp") => SocketKind::Tcp,
            Some("udp") => SocketKind::Udp,
            Some("unix") => SocketKind::Unix,
            Some(_) => {
                return Err(Error::bad_request("socket_type must be tcp, udp or unix"));
            }
        };
        let address = options.get("address").cloned().unwrap_or_default();
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        let sound = match kind {
            SocketKind::Unix => address.starts_with('/'),
            SocketKind::Tcp | SocketKind::Udp => matches!(port, Some(Ok(1..))),
        };
        if !sound {
            return Err(Error::bad_request(
                "address is required: host:port, or the absolute path of a UNIX socket",
            ));
        }
        let timeout = match options.get("write_timeout") {
            None => DEFAULT_TIMEOUT,
            Some(text) => duration::parse(text)
                .map_err(|error| Error::bad_request(format!("write_timeout: {error}")))?,
        };
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err(Error::bad_request(format!(
                "write_timeout must be above 0 and at most {} s: requests wait for the device",
                MAX_TIMEOUT.as_secs()
            )));
        }
        Ok(Self {
            kind,
            address,
            timeout,
            connection: None,
        })
    }

    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(connection) = &mut self.connection
            && connection.is_open()
            && connection.send(line).is_ok()
        {
            return Ok(());
        }
        self.connection = None;
        let mut connection = self.connect()?;
        connection.send(line)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Whether somebody is there; of UDP nobody can say.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        self.connection = Some(self.connect()?);
        Ok(())
    }

    fn connect(&self) -> io::Result<Connection> {
        let timeout = Some(self.timeout);
        match self.kind {
            SocketKind::Unix => {
                let stream = UnixStream::connect(&self.address)?;
                stream.set_write_timeout(timeout)?;
                Ok(Connection::Unix(stream))
            }
            SocketKind::Tcp => self.first_of(|address| {
                let stream = TcpStream::connect_timeout(&address, self.timeout)?;
                stream.set_write_timeout(timeout)?;
                stream.set_nodelay(true)?;
                Ok(Connection::Tcp(stream))
            }),
            SocketKind::Udp => self.first_of(|address| {
                let any: SocketAddr = if address.is_ipv4() {
                    ([0, 0, 0, 0], 0).into()
                } else {
                    ([0u16; 8], 0).into()
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                socket.set_write_timeout(timeout)?;
                Ok(Connection::Udp(socket))
            }),
        }
    }

    /// The first address of the name that works.
    fn first_of(
        &self,
        connect: impl Fn(SocketAddr) -> io::Result<Connection>,
    ) -> io::Result<Connection> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.address.to_socket_addrs()? {
            match connect(address) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Connection {
    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(line),
            Self::Unix(stream) => stream.write_all(line),
            Self::Udp(socket) => socket.send(line).map(drop),
        }
    }

    /// Whether the other side has hung up, as far as is known here. What it says otherwise is thrown away.
    fn is_open(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => {
                stream.set_nonblocking(true).is_ok()
                    && drained(stream)
                    && stream.set_nonblocking(false).is_ok()
            }
            Self::Unix(stream) => {
                stream.set_nonblocking(true).is_ok()
                    && drained(stream)
                    && stream.set_nonblocking(false).is_ok()
            }
            Self::Udp(_) => true,
        }
    }
}

fn drained(stream: &mut impl Read) -> bool {
    let mut said = [0; 512];
    loop {
        match stream.read(&mut said) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}
