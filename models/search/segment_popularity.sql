/* The 200 most popular items of each segment of shoppers and of each category, for shoppers without a profile. */
MODEL (
  kind FULL,
  grain (segment, item_id),
  audits (
    not_null(columns := (segment, item_id, shoppers, rank)),
    unique_combination_of_columns(columns := (segment, item_id)),
    unique_combination_of_columns(columns := (segment, rank)),
    at_least(column := shoppers, bound := 1)
  )
);

WITH recent AS (
  SELECT DISTINCT
    likes.user_id,
    likes.item_id
  FROM profiles.likes AS likes
  INNER JOIN profiles.pace AS pace
    ON likes.days < 2 * pace.popularity_days /* longer than for all shoppers, since a segment has fewer */
), counts AS (
  SELECT
    users.segment,
    recent.item_id,
    COUNT(*) AS shoppers
  FROM recent
  INNER JOIN staging.users AS users
    ON users.user_id = recent.user_id
  WHERE
    NOT users.segment IS NULL
  GROUP BY
    users.segment,
    recent.item_id
  UNION ALL
  SELECT
    'category:' || items.category AS segment,
    recent.item_id,
    COUNT(*) AS shoppers
  FROM recent
  INNER JOIN staging.items AS items
    ON items.item_id = recent.item_id
  WHERE
    NOT items.category IS NULL
  GROUP BY
    items.category,
    recent.item_id
)
SELECT
  counts.segment, /* a segment of staging.users, or category:<category> with a category of staging.items */
  counts.item_id, /* an item that shoppers of the segment took (any event of positive weight, views too), or an item of the category */
  counts.shoppers, /* number of shoppers who took it in twice the last popularity_days days (profiles.pace); in search.item_popularity of all time */
  ROW_NUMBER() OVER (
    PARTITION BY counts.segment
    ORDER BY counts.shoppers DESC, counts.item_id
  )::INT AS rank /* 1 for the most popular item of the segment; 200 at most */
FROM counts
QUALIFY
  rank <= 200
