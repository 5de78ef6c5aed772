-- Which popular items rise and fall from release to release?
WITH ordered AS (
    SELECT
        releases.release,
        releases.recorded_at,
        LAG(releases.release) OVER (PARTITION BY releases.url ORDER BY releases.recorded_at) AS before
    FROM releases.releases AS releases
    WHERE releases.release IN (SELECT popular.release FROM served.popular_items AS popular)
)
SELECT
    ordered.release,
    popular.rank,
    old.rank AS rank_before,
    old.rank - popular.rank AS risen_by,
    popular.item_id,
    popular.title,
    ROUND(popular.popularity, 2) AS popularity,
    ROUND(old.popularity, 2) AS popularity_before
FROM ordered
INNER JOIN served.popular_items AS popular ON popular.release = ordered.release
LEFT JOIN served.popular_items AS old ON old.release = ordered.before AND old.item_id = popular.item_id
WHERE popular.rank <= 10
ORDER BY ordered.recorded_at DESC, popular.rank
