-- Which of the ten most popular items rise and fall from release to release, and which leave the ten?
WITH ordered AS (
    SELECT
        releases.release,
        releases.recorded_at,
        LAG(releases.release) OVER (PARTITION BY releases.url ORDER BY releases.recorded_at) AS before
    FROM releases.releases AS releases
    WHERE releases.release IN (SELECT popular.release FROM shown.popular_items AS popular)
), ranked AS (
    SELECT
        ordered.release,
        ordered.recorded_at,
        popular.item_id,
        ARG_MAX(popular.title, popular.release = ordered.release) AS title,
        ANY_VALUE(popular.rank) FILTER (popular.release = ordered.release) AS rank,
        ANY_VALUE(popular.rank) FILTER (popular.release = ordered.before) AS rank_before,
        ANY_VALUE(popular.popularity) FILTER (popular.release = ordered.release) AS popularity,
        ANY_VALUE(popular.popularity) FILTER (popular.release = ordered.before) AS popularity_before
    FROM ordered
    INNER JOIN shown.popular_items AS popular ON popular.release IN (ordered.release, ordered.before)
    GROUP BY ordered.release, ordered.recorded_at, popular.item_id
)
SELECT
    ranked.release,
    ranked.rank,
    ranked.rank_before,
    ranked.rank_before - ranked.rank AS risen_by,
    ranked.item_id,
    ranked.title,
    ROUND(ranked.popularity, 2) AS popularity,
    ROUND(ranked.popularity_before, 2) AS popularity_before
FROM ranked
WHERE ranked.rank <= 10 OR ranked.rank_before <= 10
ORDER BY ranked.recorded_at DESC, ranked.release, ranked.rank NULLS LAST, ranked.rank_before
