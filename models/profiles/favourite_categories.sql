/* The categories with the largest profile weights of each shopper; the fallback chain ranks their popular items. */
MODEL (
  kind FULL,
  grain user_id,
  audits (
    not_null(columns := (user_id, categories)),
    unique_values(columns := (user_id))
  )
);

WITH liked AS (
  SELECT
    weights.user_id,
    items.category,
    @nine_digits(SUM(weights.weight), SUM(ABS(weights.weight))) AS weight
  FROM profiles.profile_weights AS weights
  INNER JOIN staging.items AS items
    ON items.item_id = weights.item_id
  WHERE
    weights.weight > 0 AND NOT items.category IS NULL
  GROUP BY
    weights.user_id,
    items.category
)
SELECT
  liked.user_id, /* the shop's id of the shopper */
  LIST_TRANSFORM(ARRAY_SLICE(@in_order(-liked.weight, liked.category), 1, 3), item -> item.category)::TEXT[] AS categories /* at most three, the largest weight first */
FROM liked
GROUP BY
  liked.user_id
