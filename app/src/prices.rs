//! What an order costs. All amounts are exact decimals; where they are rounded is said there.

use orchestrator::transform::TransformError;
use rust_decimal::{Decimal, RoundingStrategy, dec};
use serde::Serialize;

use crate::enrich::{Line, Order};

/// What is added to an order.
#[derive(Debug, Serialize)]
pub(crate) struct Priced<'a> {
    lines: Vec<PricedLine<'a>>,
    discount: Decimal,
    net: Decimal,
    tax_percent: Decimal,
    tax: Decimal,
    total: Decimal,
}

#[derive(Debug, Serialize)]
struct PricedLine<'a> {
    sku: &'a str,
    quantity: u32,
    unit_price: Decimal,
    discount: Decimal,
    net: Decimal,
}

pub(crate) fn price(order: &Order) -> Result<Priced<'_>, TransformError> {
    let tax_percent = tax_percent(&order.country)?;
    let currency = Currency::of(&order.currency)?;
    let lines = order
        .lines
        .iter()
        .map(|line| price_line(line, &currency))
        .collect::<Result<Vec<_>, _>>()?;
    let gross: Decimal = lines.iter().map(|line| line.net).sum();
    let discount = currency.round(gross * discount_percent(order.discount_code.as_deref())? / dec!(100));
    let net = gross - discount;
    let tax = currency.round_tax(net * tax_percent / dec!(100));
    Ok(Priced {
        lines,
        discount,
        net,
        tax_percent,
        tax,
        total: net + tax,
    })
}

fn price_line<'a>(line: &'a Line, currency: &Currency) -> Result<PricedLine<'a>, TransformError> {
    let unit_price = currency.round(list_price(&line.sku)? * currency.per_euro);
    let gross = unit_price * Decimal::from(line.quantity);
    let percent = match line.quantity {
        100.. => dec!(15),
        50.. => dec!(10),
        10.. => dec!(5),
        _ => dec!(0),
    };
    let discount = currency.round(gross * percent / dec!(100));
    Ok(PricedLine {
        sku: &line.sku,
        quantity: line.quantity,
        unit_price,
        discount,
        net: gross - discount,
    })
}

struct Currency {
    minor_units: u32,
    per_euro: Decimal,
}

impl Currency {
    fn of(code: &str) -> Result<Self, TransformError> {
        let (minor_units, per_euro) = match code {
            "EUR" => (2, dec!(1)),
            "CHF" => (2, dec!(0.9412)),
            "GBP" => (2, dec!(0.8437)),
            "JPY" => (0, dec!(163.21)),
            "KWD" => (3, dec!(0.33215)),
            "SEK" => (2, dec!(11.2875)),
            "USD" => (2, dec!(1.0864)),
            // A later try may find a rate: after the next deployment of this table.
            "NOK" => {
                return Err(TransformError::retryable(
                    "rate_unavailable",
                    "NOK has no exchange rate yet",
                ));
            }
            _ => return Err(unknown("unsupported_currency", code)),
        };
        Ok(Self {
            minor_units,
            per_euro,
        })
    }

    /// Half to even, so that many roundings do not drift.
    fn round(&self, amount: Decimal) -> Decimal {
        self.to_minor_units(amount, RoundingStrategy::MidpointNearestEven)
    }

    /// Half up, as tax offices ask.
    fn round_tax(&self, amount: Decimal) -> Decimal {
        self.to_minor_units(amount, RoundingStrategy::MidpointAwayFromZero)
    }

    fn to_minor_units(&self, amount: Decimal, strategy: RoundingStrategy) -> Decimal {
        let mut rounded = amount.round_dp_with_strategy(self.minor_units, strategy);
        rounded.rescale(self.minor_units);
        rounded
    }
}

fn list_price(sku: &str) -> Result<Decimal, TransformError> {
    Ok(match sku {
        "DESK-OAK" => dec!(489.00),
        "CHAIR-ERGO" => dec!(259.90),
        "LAMP-LED" => dec!(39.95),
        "MONITOR-27" => dec!(329.00),
        "KEYBOARD-DE" => dec!(79.99),
        "MOUSE-BT" => dec!(24.50),
        "CABLE-USBC" => dec!(7.25),
        "PAPER-A4" => dec!(4.79),
        _ => return Err(unknown("unknown_sku", sku)),
    })
}

fn tax_percent(country: &str) -> Result<Decimal, TransformError> {
    Ok(match country {
        "AT" | "FR" | "GB" => dec!(20.0),
        "CH" => dec!(8.1),
        "DE" => dec!(19.0),
        "IT" => dec!(22.0),
        "JP" => dec!(10.0),
        "KW" | "US" => dec!(0.0),
        "NL" => dec!(21.0),
        "NO" | "SE" => dec!(25.0),
        _ => return Err(unknown("unknown_country", country)),
    })
}

fn discount_percent(code: Option<&str>) -> Result<Decimal, TransformError> {
    Ok(match code {
        None => dec!(0),
        Some("WELCOME10") => dec!(10),
        Some("STAFF25") => dec!(25),
        Some(code) => return Err(unknown("unknown_discount", code)),
    })
}

fn unknown(class: &'static str, what: &str) -> TransformError {
    TransformError::permanent(class, format!("`{}` is not in our tables", what.escape_debug()))
}
