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

SELECT
  interactions.user_id, /* the shop's id of the shopper */
  ROW_NUMBER() OVER (
    PARTITION BY interactions.user_id
    ORDER BY interactions.interacted_at, interactions.row_number
  )::INT AS position, /* 1 is the oldest interaction */
  interactions.item_id, /* an item of staging.items */
  interactions.event_type, /* kind of event in lower case, such as view or purchase */
  interactions.value, /* strength of the interaction; positive */
  interactions.interacted_at /* time of the interaction in UTC */
FROM staging.interactions AS interactions
CROSS JOIN histories.as_of AS moment
WHERE
  interactions.interacted_at <= moment.as_of
