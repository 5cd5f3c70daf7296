//! Callbacks by HTTP, to addresses that people have named.

use std::time::Duration;

use async_trait::async_trait;
use muonic_ports::routes::Callbacks;
use ureq::Agent;

const TIME_MAX: Duration = Duration::from_secs(10);

pub struct HttpCallbacks(Agent);

impl HttpCallbacks {
    pub fn new() -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(TIME_MAX))
            .http_status_as_error(false)
            // Where it goes is what the user has said, and nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        Self(Agent::new_with_config(config))
    }
}

#[async_trait]
impl Callbacks for HttpCallbacks {
    async fn post(&self, url: &str, document: String) -> Result<(), String> {
        let (agent, url) = (self.0.clone(), url.to_owned());
        let sent =
            tokio::task::spawn_blocking(move || agent.post(&url).content_type("application/json").send(document));
        match sent.await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("it was answered {}", answer.status())),
            Ok(Err(e)) => Err(e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }
}
