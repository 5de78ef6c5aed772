/* Items that the same shoppers took: cosine of the sets of shoppers within a window, the best 50 of each item. */
MODEL (
  kind FULL,
  grain (item_id, neighbour_id),
  audits (
    not_null(columns := (item_id, neighbour_id, similarity, rank)),
    unique_combination_of_columns(columns := (item_id, neighbour_id)),
    forall(criteria := (similarity > 0 AND similarity < 1.000001 AND item_id <> neighbour_id)),
    at_least(column := rank, bound := 1)
  )
);

WITH taken AS (
  SELECT
    likes.user_id,
    likes.item_id,
    MIN(likes.days) AS days
  FROM profiles.likes AS likes
  WHERE
    likes.days < @co_purchase_days
  GROUP BY
    likes.user_id,
    likes.item_id
), bounded AS (
  /* The latest 100 items of a shopper: resellers who take thousands cost millions of pairs, and find less (validation of
     Online Retail: R@10 0.048 with all of them, 0.052 with 100). */
  SELECT
    taken.user_id,
    taken.item_id,
    DENSE_RANK() OVER (ORDER BY taken.item_id)::INT AS item /* numbers compare faster than ids */
  FROM taken
  QUALIFY
    ROW_NUMBER() OVER (PARTITION BY taken.user_id ORDER BY taken.days, taken.item_id) <= 100
), shoppers AS (
  SELECT
    bounded.item,
    ANY_VALUE(bounded.item_id) AS item_id,
    COUNT(*) AS shoppers
  FROM bounded
  GROUP BY
    bounded.item
), pairs AS (
  SELECT
    one.item AS low,
    other.item AS high,
    COUNT(*) AS shoppers
  FROM bounded AS one
  INNER JOIN bounded AS other
    ON other.user_id = one.user_id AND other.item > one.item
  GROUP BY
    one.item,
    other.item
), directed AS (
  SELECT
    pairs.low AS item,
    pairs.high AS neighbour,
    pairs.shoppers
  FROM pairs
  UNION ALL
  SELECT
    pairs.high AS item,
    pairs.low AS neighbour,
    pairs.shoppers
  FROM pairs
), scored AS (
  SELECT
    one.item_id,
    other.item_id AS neighbour_id,
    directed.shoppers / SQRT(one.shoppers * other.shoppers) AS similarity
  FROM directed
  INNER JOIN shoppers AS one
    ON one.item = directed.item
  INNER JOIN shoppers AS other
    ON other.item = directed.neighbour
)
SELECT
  scored.item_id, /* an item that was taken in the window */
  scored.neighbour_id, /* another item that some of its shoppers took, too */
  scored.similarity, /* shoppers of both / sqrt(shoppers of one x shoppers of the other) */
  ROW_NUMBER() OVER (
    PARTITION BY scored.item_id
    ORDER BY scored.similarity DESC, scored.neighbour_id
  )::INT AS rank /* 1 is the nearest */
FROM scored
QUALIFY
  rank <= 50
