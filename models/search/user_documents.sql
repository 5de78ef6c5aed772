/* One document for each shopper with a history or a row in the users file, as a release publishes it. */
MODEL (
  kind FULL,
  grain user_id,
  physical_properties (
    in_ranges_of = 'user_id'
  ),
  audits (
    not_null(columns := (user_id, items, history, seen, terms, interests, behaviour, shoppers, repeats, categories)),
    unique_values(columns := (user_id)),
    unit_vectors(column := vector),
    one_dimension(column := vector),
    unit_vectors(column := fitted),
    one_dimension(column := fitted)
  )
);

/* What ARRAY_AGG collects stays in memory, and what is joined does not have to: so each item is collected once, and the vectors of interests are joined. */
WITH histories AS (
  SELECT
    weights.user_id,
    LIST_SORT(ARRAY_AGG(STRUCT_PACK(item_id := weights.item_id, weight := weights.weight, counts := weights.counts))) AS entries
  FROM profiles.profile_weights AS weights
  GROUP BY
    weights.user_id
), words AS (
  SELECT
    terms.user_id,
    @in_order(terms.rank, terms.term, terms.word, terms.weight) AS terms
  FROM profiles.term_weights AS terms
  GROUP BY
    terms.user_id
), again AS (
  SELECT
    repeat_items.user_id,
    @in_order(repeat_items.rank, repeat_items.item_id, repeat_items.score, repeat_items.times, repeat_items.last_on) AS repeats
  FROM profiles.repeat_items AS repeat_items
  GROUP BY
    repeat_items.user_id
)
SELECT
  COALESCE(histories.user_id, users.user_id) AS user_id, /* the shop's id of the shopper */
  COALESCE(profiles.items, 0)::INT AS items, /* number of items that the vector is made of */
  profiles.vector, /* profile vector, of length 1; NULL without an item that the shopper likes */
  (
    CASE
      WHEN histories.user_id IS NULL OR profiles.length IS NULL
      THEN []
      ELSE LIST_TRANSFORM(
        LIST_FILTER(histories.entries, entry -> entry.weight <> 0),
        entry -> STRUCT_PACK(item_id := entry.item_id, weight := entry.weight / profiles.length)
      )
    END
  )::STRUCT(item_id TEXT, weight DOUBLE)[] AS history, /* items of the profile; the sum of weight x item vector is the profile vector */
  COALESCE(LIST_TRANSFORM(LIST_FILTER(histories.entries, entry -> entry.counts), entry -> entry.item_id), [])::TEXT[] AS seen, /* items that answers leave out: those of the history, except items that were only shown */
  COALESCE(words.terms, [])::STRUCT(term TEXT, word TEXT, weight DOUBLE)[] AS terms, /* weighted words of the lexical retriever, the largest weight first */
  LIST_FILTER(
    [
      @struct_unless_null(interest_1.vector, interest_1.importance, interest_1.medoid, interest_1.items),
      @struct_unless_null(interest_2.vector, interest_2.importance, interest_2.medoid, interest_2.items),
      @struct_unless_null(interest_3.vector, interest_3.importance, interest_3.medoid, interest_3.items),
      @struct_unless_null(interest_4.vector, interest_4.importance, interest_4.medoid, interest_4.items)
    ],
    interest -> NOT interest IS NULL
  )::STRUCT(vector FLOAT[], importance DOUBLE, medoid TEXT, items TEXT[])[] AS interests, /* interests of profiles.interests, the most important first */
  COALESCE(starts.items, [])::STRUCT(item_id TEXT, weight DOUBLE, lasting DOUBLE)[] AS behaviour, /* items of profiles.recent_items, from which co-purchases (weight, sum 1) and EASE (lasting) start */
  COALESCE(similar.items, [])::STRUCT(item_id TEXT, score DOUBLE)[] AS shoppers, /* items of search.similar_shoppers, the largest score first; it is no number of shoppers */
  COALESCE(again.repeats, [])::STRUCT(item_id TEXT, score DOUBLE, times INT, last_on TEXT)[] AS repeats, /* items of profiles.repeat_items, the largest score first */
  users.segment, /* the shop's own group of the shopper, see staging.users; NULL without one */
  COALESCE(favourites.categories, [])::TEXT[] AS categories, /* up to three categories of profiles.favourite_categories, the best first */
  learned.vector AS fitted /* learned vector of profiles.fitted_profiles, of length 1; NULL without one */
FROM histories
FULL JOIN staging.users AS users
  ON users.user_id = histories.user_id
LEFT JOIN profiles.user_profiles AS profiles
  ON profiles.user_id = histories.user_id
LEFT JOIN profiles.fitted_profiles AS learned
  ON learned.user_id = histories.user_id
LEFT JOIN words
  ON words.user_id = histories.user_id
LEFT JOIN profiles.interests AS interest_1
  ON interest_1.user_id = histories.user_id AND interest_1.rank = 1
LEFT JOIN profiles.interests AS interest_2
  ON interest_2.user_id = histories.user_id AND interest_2.rank = 2
LEFT JOIN profiles.interests AS interest_3
  ON interest_3.user_id = histories.user_id AND interest_3.rank = 3
LEFT JOIN profiles.interests AS interest_4
  ON interest_4.user_id = histories.user_id AND interest_4.rank = 4
LEFT JOIN search.similar_shoppers AS similar
  ON similar.user_id = histories.user_id
LEFT JOIN again
  ON again.user_id = histories.user_id
LEFT JOIN profiles.recent_items AS starts
  ON starts.user_id = histories.user_id
LEFT JOIN profiles.favourite_categories AS favourites
  ON favourites.user_id = histories.user_id
