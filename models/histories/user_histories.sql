/* The history of each shopper: interactions in order of time, up to histories.as_of. */
MODEL (
  kind FULL,
  grain (user_id, position),
  audits (
    not_null(columns := (user_id, position, item_id, event_type, value, interacted_at)),
    unique_combination_of_columns(columns := (user_id, position)),
    in_order(partition := user_id, position := position, time := interacted_at)
  )
);

WITH events AS (
  SELECT
    interactions.row_number,
    interactions.user_id,
    interactions.item_id,
    interactions.event_type,
    interactions.value,
    interactions.interacted_at
  FROM staging.interactions AS interactions
  CROSS JOIN histories.as_of AS moment
  WHERE
    interactions.interacted_at <= moment.as_of
), exchanged AS (
  /* the purchases and returns of items that a shopper sent back, and the pieces that are still to be sent back; of one time, as of a log with dates only, a return is later than the purchases */
  SELECT
    events.user_id,
    events.item_id,
    events.row_number,
    events.interacted_at,
    @is_purchase(events.event_type) AS is_purchase,
    events.value,
    SUM(CASE WHEN events.event_type = 'return' THEN events.value ELSE -events.value END) OVER (
      PARTITION BY events.user_id, events.item_id
      ORDER BY events.interacted_at DESC, events.event_type = 'return' DESC, events.row_number DESC
      ROWS UNBOUNDED PRECEDING
    ) AS pieces
  FROM events
  SEMI JOIN (
    SELECT returns.user_id, returns.item_id FROM events AS returns WHERE returns.event_type = 'return'
  ) AS returned
    ON returned.user_id = events.user_id AND returned.item_id = events.item_id
  WHERE
    events.event_type = 'return' OR @is_purchase(events.event_type)
), matched AS (
  SELECT
    exchanged.row_number,
    exchanged.is_purchase
    AND exchanged.pieces >= LEAST(
      0,
      MIN(exchanged.pieces) OVER (
        PARTITION BY exchanged.user_id, exchanged.item_id
        ORDER BY exchanged.interacted_at DESC, exchanged.is_purchase, exchanged.row_number DESC
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
      )
    ) - 1e-9 * GREATEST(1, exchanged.value) AS is_reversed /* sums of fractions such as 0.1 and 0.2 miss 0.3 by less */
  FROM exchanged
)
SELECT
  events.user_id, /* the shop's id of the shopper */
  ROW_NUMBER() OVER (PARTITION BY events.user_id ORDER BY events.interacted_at, events.row_number)::INT AS position, /* 1 is the oldest interaction */
  events.item_id, /* an item of staging.items */
  CASE WHEN matched.is_reversed THEN 'reversed' ELSE events.event_type END::TEXT AS event_type, /* kind of event as in staging.interactions, such as view or purchase; `reversed` for a purchase that the shopper sent back up to as_of */
  events.value, /* strength of the interaction; positive */
  events.interacted_at /* time of the interaction in UTC */
FROM events
LEFT JOIN matched
  ON matched.row_number = events.row_number
