//! How many connections one listener has room for, and who may keep a place for long.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::Request;
use axum::http::header::{UPGRADE, VIA};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;
use super::sse;

/// What `wemixvisor api` says of itself in the requests that it hands on.
pub(super) const BESIDE: &str = "1.1 wemixvisor-api";

/// The room of one listener.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    places: Arc<Semaphore>,
    guests: Arc<Semaphore>,
}

impl Room {
    /// Room for so many connections, half of them guests where [`keep_places`] looks.
    pub(crate) fn of(connections: usize) -> Self {
        let places = Arc::new(Semaphore::new(connections));
        Self { places, guests: Arc::new(Semaphore::new(connections / 2)) }
    }

    /// A place, if one is free.
    pub(crate) fn try_seat(&self) -> Option<Seat> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        Some(self.seat_at(place))
    }

    /// A place, as soon as one is free; `None` never comes to be as long as the room is there.
    pub(crate) async fn seat(&self) -> Option<Seat> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        Some(self.seat_at(place))
    }

    fn seat_at(&self, place: OwnedSemaphorePermit) -> Seat {
        let guest = Mutex::new(None);
        Seat(Arc::new(Taken { _place: place, guests: self.guests.clone(), guest }))
    }
}

/// The place of one connection: taken until the connection is gone, whatever is spoken on it by then.
#[derive(Debug, Clone)]
pub(crate) struct Seat(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    _place: OwnedSemaphorePermit,
    guests: Arc<Semaphore>,
    guest: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Seat {
    /// Whether the connection may be a guest's from now on.
    fn is_let_stay(&self) -> bool {
        let mut guest = self.0.guest.lock().unwrap_or_else(PoisonError::into_inner);
        if guest.is_none() {
            *guest = self.0.guests.clone().try_acquire_owned().ok();
        }
        guest.is_some()
    }
}

/// Lets guests have half of the places and no more, so that the commands always find one. A guest is a stream, which
/// has no end, and whatever `wemixvisor api` hands on: its clients need not be the supervisor's user, and could
/// hold any answer up.
pub(crate) async fn keep_places(request: Request, next: Next) -> Response {
    let is_refused = |seat: &Seat| is_guest(&request) && !seat.is_let_stay();
    if request.extensions().get::<Seat>().is_some_and(is_refused) {
        let said =
            "too many clients: the supervisor keeps its other places for the commands; try again later";
        return ApiError::busy(said).into_response();
    }
    next.run(request).await
}

fn is_guest(request: &Request) -> bool {
    let headers = request.headers();
    headers.contains_key(VIA)
        || headers.contains_key(UPGRADE)
        || sse::wanted(headers)
        || request.uri().path() == "/api/v1/logs/stream"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn guests_have_half_of_the_places_and_a_place_is_free_when_its_connection_is_gone() {
        let room = Room::of(4);
        let seats: Vec<Seat> = (0..4).filter_map(|_| room.try_seat()).collect();
        assert!(seats.len() == 4 && room.try_seat().is_none());
        let stay = || seats.iter().map(Seat::is_let_stay).collect::<Vec<_>>();
        assert_eq!(stay(), [true, true, false, false]);
        assert_eq!(stay(), [true, true, false, false], "once is enough");
        let kept = seats[0].clone();
        drop(seats);
        assert_eq!(room.places.available_permits(), 3);
        drop(kept);
        assert!(room.seat().await.is_some_and(|seat| seat.is_let_stay()));
        assert_eq!((room.places.available_permits(), room.guests.available_permits()), (4, 2));
    }

    #[test]
    fn who_stays_for_long_is_a_guest() {
        let asked = |path: &str, header: &str, value: &str| {
            is_guest(&Request::get(path).header(header, value).body(axum::body::Body::empty()).unwrap())
        };
        assert!(asked("/api/v1/status", "via", BESIDE));
        assert!(asked("/api/v1/events", "accept", "text/event-stream"));
        assert!(asked("/api/v1/ws", "upgrade", "websocket"));
        assert!(asked("/api/v1/logs/stream", "accept", "*/*"));
        assert!(!asked("/api/v1/events", "accept", "application/json"));
    }
}
