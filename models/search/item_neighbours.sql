/* Co-purchases: for each item, the 50 items whose recent shoppers overlap most with its own. */
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
  INNER JOIN profiles.pace AS pace
    ON likes.days < pace.co_purchase_days
  GROUP BY
    likes.user_id,
    likes.item_id
), bounded AS (
  /* Only the latest 100 items of a shopper count. Resellers with thousands of items would make millions of pairs and
     worse neighbours (Online Retail, validation part: R@10 0.048 with all items, 0.052 with 100). */
  SELECT
    taken.user_id,
    taken.item_id,
    DENSE_RANK() OVER (ORDER BY taken.item_id)::INT AS item /* joins on numbers are faster than on ids */
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
    lower_item.item AS low,
    higher_item.item AS high,
    COUNT(*) AS shoppers
  FROM bounded AS lower_item
  INNER JOIN bounded AS higher_item
    ON higher_item.user_id = lower_item.user_id AND higher_item.item > lower_item.item
  GROUP BY
    lower_item.item,
    higher_item.item
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
    own.item_id,
    near.item_id AS neighbour_id,
    directed.shoppers / SQRT(own.shoppers * near.shoppers) AS similarity
  FROM directed
  INNER JOIN shoppers AS own
    ON own.item = directed.item
  INNER JOIN shoppers AS near
    ON near.item = directed.neighbour
)
SELECT
  scored.item_id, /* an item that somebody took in the last co_purchase_days days (profiles.pace) */
  scored.neighbour_id, /* another item that at least one of the same shoppers took in these days */
  scored.similarity, /* cosine of the two sets of shoppers: shoppers of both items / sqrt(shoppers of the item x shoppers of the neighbour) */
  ROW_NUMBER() OVER (
    PARTITION BY scored.item_id
    ORDER BY scored.similarity DESC, scored.neighbour_id
  )::INT AS rank /* 1 for the most similar neighbour; 50 at most */
FROM scored
QUALIFY
  rank <= 50
