//! The connections: bytes and frames from one side to the other.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use super::{
    Shared, Verdict,
    frame::{self, Request},
    rule::Network,
};

impl Shared {
    pub(super) fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let network = {
                let state = self.lock();
                if state.closed {
                    return;
                }
                state.network
            };
            match listener.accept() {
                Ok((client, _)) if network != Network::Refuses => {
                    let shared = Arc::clone(self);
                    thread::spawn(move || shared.serve(&client));
                }
                Ok(_) => {} // dropped: refused
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn serve(self: &Arc<Self>, client: &TcpStream) {
        let Ok((number, broker)) = self.connect(client) else {
            return;
        };
        let waiting: Arc<Mutex<HashMap<i32, bool>>> = Arc::default(); // correlation -> drop the answer
        let back = {
            let (shared, waiting) = (Arc::clone(self), Arc::clone(&waiting));
            let (Ok(from), Ok(to)) = (broker.try_clone(), client.try_clone()) else {
                return;
            };
            thread::spawn(move || {
                let _ = shared.pump_answers(&from, &to, &waiting);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            })
        };
        let _ = self.pump_requests(client, &broker, &waiting);
        let _ = client.shutdown(Shutdown::Both);
        let _ = broker.shutdown(Shutdown::Both);
        let _ = back.join();
        self.lock().connections.remove(&number);
    }

    fn connect(&self, client: &TcpStream) -> io::Result<(u64, TcpStream)> {
        client.set_nonblocking(false)?;
        client.set_nodelay(true)?;
        let broker = TcpStream::connect(&self.upstream)?;
        broker.set_nodelay(true)?;
        let mut state = self.lock();
        let number = state.next_connection;
        state.next_connection += 1;
        state.connections.insert(number, client.try_clone()?);
        Ok((number, broker))
    }

    fn pump_requests(
        &self,
        mut client: &TcpStream,
        mut broker: &TcpStream,
        waiting: &Mutex<HashMap<i32, bool>>,
    ) -> io::Result<()> {
        if !self.frames {
            return self.pump_bytes(client, broker);
        }
        while let Some(bytes) = frame::read(&mut client)? {
            let Some(request) = Request::parse(bytes) else {
                return Ok(());
            };
            let verdict = self.decide(&request);
            self.take_time();
            match verdict {
                Verdict::Cut => return Ok(()),
                Verdict::Forward | Verdict::DropAnswer => {
                    let drop_answer = matches!(verdict, Verdict::DropAnswer);
                    waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(request.correlation, drop_answer);
                    broker.write_all(&request.bytes)?;
                }
            }
        }
        Ok(())
    }

    fn pump_answers(
        &self,
        mut broker: &TcpStream,
        mut client: &TcpStream,
        waiting: &Mutex<HashMap<i32, bool>>,
    ) -> io::Result<()> {
        if !self.frames {
            return self.pump_bytes(broker, client);
        }
        while let Some(answer) = frame::read(&mut broker)? {
            let dropped = frame::correlation(&answer)
                .and_then(|id| waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id));
            if dropped == Some(true) {
                return Ok(());
            }
            self.take_time();
            client.write_all(&answer)?;
        }
        Ok(())
    }

    fn pump_bytes(&self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let size = from.read(&mut buffer)?;
            if size == 0 {
                return Ok(());
            }
            self.take_time();
            to.write_all(&buffer[..size])?;
        }
    }

    /// What the network as a whole does to what passes now.
    fn take_time(&self) {
        let mut state = self.lock();
        if let Network::Takes(long) = state.network {
            drop(state);
            thread::sleep(long);
            return;
        }
        while state.network == Network::Swallows && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
