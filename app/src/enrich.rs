use std::sync::Arc;

use orchestrator::transform::{Output, SourceRecord, TargetRecord, Transform, TransformError};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::prices::price;

/// An order as it comes in. Fields that are not named here pass through.
#[derive(Debug, Deserialize)]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) customer: String,
    pub(crate) country: String,
    pub(crate) currency: String,
    #[serde(default)]
    pub(crate) priority: bool,
    pub(crate) discount_code: Option<String>,
    pub(crate) lines: Vec<Line>,
    #[serde(default, deserialize_with = "present")]
    priced: bool,
}

/// True for a field that is there, be it null.
fn present<'de, D: Deserializer<'de>>(field: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(field).map(|_| true)
}

/// One line of an order.
#[derive(Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) sku: String,
    pub(crate) quantity: u32,
}

/// Parses, validates and prices orders, and routes those with priority to a topic of their own.
#[derive(Clone, Debug)]
pub struct Enrich {
    priority_topic: Option<Arc<str>>,
}

impl Enrich {
    /// Sends orders with priority to `topic`; none sends all orders to the target topic.
    pub fn new(topic: Option<&str>) -> Self {
        Self {
            priority_topic: topic.map(Arc::from),
        }
    }

    /// Takes the priority topic from `ORDERS_PRIORITY_TOPIC`: `orders.priority` if it is not set, none if it is empty.
    pub fn from_env() -> Self {
        let topic = std::env::var("ORDERS_PRIORITY_TOPIC").unwrap_or_else(|_| "orders.priority".to_owned());
        Self::new(Some(topic.trim()).filter(|topic| !topic.is_empty()))
    }
}

impl Transform for Enrich {
    fn topics(&self) -> Vec<Arc<str>> {
        self.priority_topic.iter().cloned().collect()
    }

    async fn transform(&self, record: &SourceRecord) -> Result<Output, TransformError> {
        let Some(value) = &record.value else {
            return Ok(record
                .key
                .clone()
                .map_or(Output::Filtered, |key| TargetRecord::tombstone(key).into()));
        };
        let order = parse(value)?;
        validate(&order)?;
        let priced = price(&order)?;
        let enriched = TargetRecord {
            headers: record.headers.clone(),
            ..TargetRecord::new(record.key.clone(), with_field(value, "priced", &priced)?)
        };
        Ok(match &self.priority_topic {
            Some(topic) if order.priority => enriched.to(Arc::clone(topic)),
            _ => enriched,
        }
        .into())
    }
}

fn parse(value: &[u8]) -> Result<Order, TransformError> {
    if !value.trim_ascii_start().starts_with(b"{") {
        return Err(TransformError::permanent("malformed", "not a JSON object"));
    }
    serde_json::from_slice(value).map_err(|why| TransformError::permanent("malformed", why.to_string()))
}

fn validate(order: &Order) -> Result<(), TransformError> {
    let invalid = |what: String| Err(TransformError::permanent("invalid", what));
    for (name, text) in [("order_id", &order.order_id), ("customer", &order.customer)] {
        if text.is_empty() || text.len() > 64 {
            return invalid(format!("{name} has {} bytes: 1 to 64 are allowed", text.len()));
        }
    }
    if order.lines.is_empty() || order.lines.len() > 500 {
        return invalid(format!("{} lines: 1 to 500 are allowed", order.lines.len()));
    }
    if let Some(line) = order
        .lines
        .iter()
        .find(|line| !(1..=10_000).contains(&line.quantity))
    {
        let Line { sku, quantity } = line;
        return invalid(format!("quantity {quantity} of {sku}: 1 to 10000 are allowed"));
    }
    if order.priced {
        return invalid("the order is priced already".to_owned());
    }
    Ok(())
}

/// `object` as it is, with one field more at its end. Not for an empty object.
fn with_field(object: &[u8], name: &str, value: &impl serde::Serialize) -> Result<Vec<u8>, TransformError> {
    let broken = |why: String| TransformError::permanent("malformed", why);
    let body = object
        .trim_ascii_end()
        .strip_suffix(b"}")
        .ok_or_else(|| broken("not a JSON object".to_owned()))?;
    let mut longer = Vec::with_capacity(object.len() + 512);
    longer.extend_from_slice(body);
    longer.extend_from_slice(format!(",\"{name}\":").as_bytes());
    serde_json::to_writer(&mut longer, value).map_err(|why| broken(why.to_string()))?;
    longer.push(b'}');
    Ok(longer)
}

#[cfg(test)]
mod tests;
