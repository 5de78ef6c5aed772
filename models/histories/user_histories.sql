/* Every shopper's interactions in order of time, as of the moment of the tables. */
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
  )::INT AS position, /* 1 is the oldest */
  interactions.item_id, /* an item of staging.items */
  interactions.event_type, /* what happened, in lower case */
  interactions.value, /* strength of the interaction, positive */
  interactions.interacted_at /* when, in UTC */
FROM staging.interactions AS interactions
CROSS JOIN histories.as_of AS moment
WHERE
  interactions.interacted_at <= moment.as_of
