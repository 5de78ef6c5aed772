/* Exactly what is indexed for each known shopper: vector, weighted history and words, and the items seen. */
MODEL (
  kind FULL,
  grain user_id,
  audits (
    not_null(columns := (user_id, items, vector, history, seen, terms)),
    unique_values(columns := (user_id)),
    unit_vectors(column := vector),
    one_dimension(column := vector)
  )
);

WITH seen AS (
  SELECT
    histories.user_id,
    ARRAY_AGG(DISTINCT histories.item_id ORDER BY histories.item_id) AS seen
  FROM histories.user_histories AS histories
  GROUP BY
    histories.user_id
), weighted AS (
  SELECT
    weights.user_id,
    ARRAY_AGG(
      STRUCT_PACK(item_id := weights.item_id, weight := weights.weight / profiles.length)
      ORDER BY weights.item_id
    ) AS history
  FROM profiles.profile_weights AS weights
  INNER JOIN profiles.user_profiles AS profiles
    ON profiles.user_id = weights.user_id
  GROUP BY
    weights.user_id
), words AS (
  SELECT
    terms.user_id,
    ARRAY_AGG(
      STRUCT_PACK(term := terms.term, word := terms.word, weight := terms.weight) ORDER BY terms.rank
    ) AS terms
  FROM profiles.term_weights AS terms
  GROUP BY
    terms.user_id
)
SELECT
  profiles.user_id, /* the shop's id of the shopper */
  profiles.items, /* number of items behind the vector */
  profiles.vector, /* unit vector of the profile */
  weighted.history, /* items with weights such that the vector is the sum of weight x item vector */
  seen.seen, /* every item of the history, left out of answers */
  COALESCE(words.terms, []) AS terms /* the weighted words of the lexical leg */
FROM profiles.user_profiles AS profiles
INNER JOIN weighted
  ON weighted.user_id = profiles.user_id
INNER JOIN seen
  ON seen.user_id = profiles.user_id
LEFT JOIN words
  ON words.user_id = profiles.user_id
