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

WITH histories AS (
  SELECT
    weights.user_id,
    ARRAY_AGG(weights.item_id ORDER BY weights.item_id) AS seen,
    ARRAY_AGG(
      STRUCT_PACK(item_id := weights.item_id, weight := weights.weight) ORDER BY weights.item_id
    ) AS history
  FROM profiles.profile_weights AS weights
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
  histories.history, /* items with their weights: the vector is their weighted mean */
  histories.seen, /* every item of the history, left out of answers */
  COALESCE(words.terms, []) AS terms /* the weighted words of the lexical leg */
FROM profiles.user_profiles AS profiles
INNER JOIN histories
  ON histories.user_id = profiles.user_id
LEFT JOIN words
  ON words.user_id = profiles.user_id
