/* What a shopper may buy again: items bought on several days by the shopper, or by a tenth of the shoppers who bought them, and not disliked, hidden or sent back since. Where the shop has no purchases, every positive event counts. */
MODEL (
  kind FULL,
  grain (user_id, item_id),
  audits (
    not_null(columns := (user_id, item_id, times, last_on, score, rank)),
    unique_combination_of_columns(columns := (user_id, item_id)),
    at_least(column := times, bound := 1),
    forall(criteria := (score > 0 AND score < 1e308))
  )
);

WITH shop AS (
  SELECT
    COALESCE(BOOL_OR(@is_purchase(histories.event_type)), FALSE) AS has_purchases
  FROM histories.user_histories AS histories
), events AS (
  SELECT
    likes.user_id,
    likes.item_id,
    likes.position,
    @local_day(histories.interacted_at, @declared_values) AS day,
    likes.days - MIN(likes.days) OVER (PARTITION BY likes.user_id) AS days /* before the shopper's own latest purchase, so that another as_of changes no score */
  FROM profiles.likes AS likes
  INNER JOIN histories.user_histories AS histories
    ON histories.user_id = likes.user_id AND histories.position = likes.position
  CROSS JOIN shop
  WHERE
    @is_purchase(histories.event_type) OR NOT shop.has_purchases
), taken AS (
  SELECT
    events.user_id,
    events.item_id,
    events.day,
    MIN(events.days) AS days,
    MAX(events.position) AS position
  FROM events
  GROUP BY
    events.user_id,
    events.item_id,
    events.day
), counted AS (
  SELECT
    taken.user_id,
    taken.item_id,
    COUNT(*) AS times,
    MAX(taken.day) AS last_on,
    MAX(taken.position) AS position,
    ROUND(SUM(POWER(0.5, taken.days / pace.half_life_days)), 9) AS recency /* the last digits depend on the order of adding */
  FROM taken
  CROSS JOIN profiles.pace AS pace
  GROUP BY
    taken.user_id,
    taken.item_id
), repeated AS (
  SELECT
    counted.item_id,
    AVG((
      counted.times > 1
    )::INT) AS share
  FROM counted
  GROUP BY
    counted.item_id
), disliked AS (
  SELECT
    histories.user_id,
    histories.item_id,
    MAX(histories.position) AS position
  FROM histories.user_histories AS histories
  LEFT JOIN profiles.event_weights AS known
    ON known.event_type = histories.event_type
  INNER JOIN profiles.event_weights AS fallback
    ON fallback.event_type = 'default'
  WHERE
    COALESCE(known.weight, fallback.weight) < 0
  GROUP BY
    histories.user_id,
    histories.item_id
), ranked AS (
  SELECT
    counted.user_id,
    counted.item_id,
    counted.times,
    counted.last_on,
    ROUND(counted.recency / MAX(counted.recency) OVER (PARTITION BY counted.user_id), 4) AS score,
    ROW_NUMBER() OVER (PARTITION BY counted.user_id ORDER BY counted.recency DESC, counted.item_id) AS rank
  FROM counted
  INNER JOIN repeated
    ON repeated.item_id = counted.item_id
  LEFT JOIN disliked
    ON disliked.user_id = counted.user_id AND disliked.item_id = counted.item_id
  WHERE
    (
      counted.times > 1 OR repeated.share >= 0.1
    )
    AND counted.position > COALESCE(disliked.position, 0) /* not by the net weight: that of what was bought often stays positive after a hide */
)
SELECT
  ranked.user_id, /* the shop's id of the shopper */
  ranked.item_id, /* an item of the history */
  ranked.times::INT AS times, /* different days on which the shopper bought it, in the time zone that contract.yaml declares, else in UTC; took it, where the shop has no purchases */
  ranked.last_on, /* the last of these days */
  ranked.score, /* these days, each halved with its age by the half-life of histories, divided by the shopper's largest */
  ranked.rank::INT AS rank /* 1 for the largest score of the shopper; 50 at most */
FROM ranked
WHERE
  ranked.rank <= 50 AND ranked.score > 0
