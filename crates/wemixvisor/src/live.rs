//! The way to an answer with a running supervisor.

use serde::de::DeserializeOwned;
use serde_json::Value;
use wemixvisor_daemon::api::wire;
use wemixvisor_daemon::control::{Answer, Client, ClientError, Method, Stream};
use wemixvisor_host::home::Home;

use crate::failure::Failure;

/// A supervisor that is asked.
#[derive(Debug, Clone)]
pub struct Live {
    client: Client,
}

impl Live {
    /// The supervisor of a home, if there is one.
    pub fn of(home: &Home) -> Self {
        Self { client: Client::new(home) }
    }

    /// How it stands; `None` when no supervisor runs.
    ///
    /// # Errors
    /// A supervisor that is there and gives no good answer.
    pub async fn status(&self) -> Result<Option<wire::Status>, Failure> {
        self.get_if_running("/api/v1/status").await
    }

    /// How it stands, where a supervisor is needed.
    ///
    /// # Errors
    /// Also when none runs.
    pub async fn status_now(&self) -> Result<wire::Status, Failure> {
        self.get("/api/v1/status").await
    }

    /// The failure of a command that needs a supervisor.
    pub fn not_running(&self) -> Failure {
        ClientError::NotRunning { socket: self.client.socket().into() }.into()
    }

    /// Asks; `None` when no supervisor runs.
    ///
    /// # Errors
    /// A supervisor that is there and gives no good answer.
    pub async fn get_if_running<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        running(self.client.get(path).await)
    }

    /// Asks.
    ///
    /// # Errors
    /// Also when no supervisor runs.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Ok(self.client.get(path).await?)
    }

    /// Orders something; `None` when no supervisor runs.
    ///
    /// # Errors
    /// A refusal, or a supervisor that gives no good answer.
    pub async fn order_if_running(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Answer>, Failure> {
        running(self.client.order(method, path, body).await)
    }

    /// Orders something without a body; the answer is what was said.
    ///
    /// # Errors
    /// Also when no supervisor runs.
    pub async fn order(&self, method: Method, path: &str) -> Result<String, Failure> {
        let answer = self.client.order(method, path, None).await?;
        Ok(message(&answer))
    }

    /// The same by `POST`.
    ///
    /// # Errors
    /// Also when no supervisor runs.
    pub async fn post(&self, path: &str) -> Result<String, Failure> {
        self.order(Method::POST, path).await
    }

    /// Opens a stream of what happens.
    ///
    /// # Errors
    /// Also when no supervisor runs.
    pub async fn stream(&self, path: &str) -> Result<Stream, Failure> {
        Ok(self.client.stream(path).await?)
    }
}

/// What an answer says in words.
pub fn message(answer: &Answer) -> String {
    answer.body["message"].as_str().unwrap_or_default().into()
}

fn running<T>(answer: Result<T, ClientError>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
