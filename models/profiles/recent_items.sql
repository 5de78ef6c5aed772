/* The items with the largest recent weights of each shopper: the behaviour retriever looks up their co-purchases. */
MODEL (
  kind FULL,
  grain user_id,
  audits (
    not_null(columns := (user_id, items)),
    unique_values(columns := (user_id))
  )
);

WITH latest AS (
  SELECT
    weights.user_id,
    ARRAY_SLICE(@in_order(-weights.recent, weights.item_id, weights.recent, weights.lasting), 1, 100) AS items
  FROM profiles.profile_weights AS weights
  WHERE
    weights.recent > 1e-9
  GROUP BY
    weights.user_id
), totals AS (
  SELECT
    latest.user_id,
    latest.items,
    @list_total(LIST_TRANSFORM(latest.items, item -> item.recent)) AS total
  FROM latest
)
SELECT
  totals.user_id, /* the shop's id of the shopper */
  LIST_TRANSFORM(
    totals.items,
    item -> STRUCT_PACK(item_id := item.item_id, weight := item.recent / totals.total, lasting := item.lasting)
  )::STRUCT(item_id TEXT, weight DOUBLE, lasting DOUBLE)[] AS items /* at most 100 items, the largest weight first; the weights sum to 1; lasting is the weight for EASE */
FROM totals
