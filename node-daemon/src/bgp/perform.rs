//! Does what the speaker wants, and tells it what happens: between it, the connections, BFD and the table.

use std::collections::VecDeque;

use tokio::net::TcpStream;
use twill_bgp::bfd;
use twill_bgp::speaker::{Connection, Event, Input, Output};

use super::Task;
use super::detect::Changed;
use super::lines::{Lines, News};

impl Task<'_> {
    pub(super) fn perform(&mut self, outputs: Vec<Output>) {
        let mut outputs = VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Write(connection) => outputs.extend(self.write(connection)),
                Output::RoutesChanged | Output::Selected(_) => self.take_changes(),
                Output::Told(peer, event) => {
                    // Whoever speaks with us is there, whatever BFD said.
                    if matches!(event, Event::Up(_)) && self.lost.remove(&peer) {
                        let reach = self.ground.reach(&self.lost);
                        let now = self.now();
                        outputs.extend(
                            self.speaking
                                .iter_mut()
                                .flat_map(|speaking| speaking.speaker.step(now, Input::Reach(reach.clone()))),
                        );
                    }
                    self.mark.follow(peer, &event);
                    self.spare.follow(self.now(), peer, &event);
                    if let Some(speaking) = &self.speaking {
                        self.words.tell(&speaking.names, peer, &event);
                    }
                }
                output => self.do_without_speaker(output),
            }
        }
    }

    pub(super) fn do_without_speaker(&mut self, output: Output) {
        match output {
            Output::Dial(connection, endpoint) => self.lines.dial(connection, *endpoint),
            Output::Close(connection, last) => self.lines.close(connection, last),
            _ => {}
        }
    }

    /// Lets a connection take what there is for it.
    fn write(&mut self, connection: Connection) -> Vec<Output> {
        let now = self.now();
        let Some(speaking) = &mut self.speaking else { return Vec::new() };
        let mut bytes = Vec::new();
        let outputs = speaking.speaker.write(now, connection, &mut bytes);
        if !bytes.is_empty() {
            self.lines.write(connection, bytes);
        }
        outputs
    }

    fn take_changes(&mut self) {
        let Some(speaking) = &mut self.speaking else { return };
        self.table.take(speaking.speaker.changes(), &self.ground);
        self.dirty = true;
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Connected(connection, stream) => {
                if !self.lines.is_dialling(connection) {
                    return;
                }
                match stream.local_addr() {
                    Ok(local) => {
                        if let (Some(speaking), Ok(remote)) = (&mut self.speaking, stream.peer_addr()) {
                            speaking.unreached.remove(&remote.ip());
                        }
                        self.lines.stand(connection, stream);
                        self.input(Input::Connected { connection, local: local.ip() });
                    }
                    Err(_) => self.hear(News::Failed(connection)),
                }
            }
            News::Unreached(connection, peer, error) => {
                if let Some(speaking) = &mut self.speaking {
                    speaking.unreached.insert(peer, error.to_string());
                }
                self.hear(News::Failed(connection));
            }
            News::Failed(connection) => {
                self.lines.forget(connection);
                self.input(Input::Failed(connection));
            }
            News::Received(connection, bytes) => self.input(Input::Received(connection, &bytes)),
            News::Written(connection) => {
                let outputs = self.write(connection);
                self.perform(outputs);
            }
            News::Came(stream) => self.accept(stream),
        }
    }

    fn accept(&mut self, stream: TcpStream) {
        let now = self.now();
        let Some(speaking) = &mut self.speaking else { return };
        let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else { return };
        if self.lines.refuse(remote.ip()) {
            return tracing::debug!("BGP: a connection of {remote} is refused: its password could not be set");
        }
        let (connection, outputs) = match speaking.speaker.accept(now, local.ip(), remote.ip()) {
            Ok(accepted) => accepted,
            Err(refused) => return tracing::debug!("BGP: a connection of {remote} is refused: {refused}"),
        };
        let peer = speaking.config.peers().get(&remote.ip());
        let settled = peer.map(|peer| Lines::settle(stream, &peer.endpoint));
        match settled {
            Some(Ok(stream)) => {
                self.lines.stand(connection, stream);
                self.perform(outputs);
            }
            failed => {
                if let Some(Err(error)) = failed {
                    tracing::warn!("BGP: a connection of {remote} cannot be set up: {error}");
                }
                self.perform(outputs);
                self.input(Input::Failed(connection));
            }
        }
    }

    pub(super) fn detected(&mut self, (peer, change): Changed) {
        // Its BFD has ended with its control plane, whose restart is waited for: that says nothing of its forwarding.
        let restarts =
            !change.independent && self.speaking.as_ref().is_some_and(|speaking| speaking.speaker.awaits_return(peer));
        let is_other = match (change.is_failure(), change.to) {
            (true, _) if restarts => false,
            (true, _) => self.lost.insert(peer),
            (false, bfd::State::Up) => self.lost.remove(&peer),
            (false, _) => false,
        };
        self.input(Input::Bfd(peer, change));
        if is_other {
            self.reach();
        }
    }
}
