-- Which items does the newest release of each index show to more or fewer sampled shoppers than the one before?
WITH ordered AS (
    SELECT
        releases.release,
        LAG(releases.release) OVER (PARTITION BY releases.url ORDER BY releases.recorded_at) AS before,
        ROW_NUMBER() OVER (PARTITION BY releases.url ORDER BY releases.recorded_at DESC) AS age
    FROM releases.releases AS releases
    WHERE releases.release IN (SELECT lists.release FROM shown.top_lists AS lists)
), counted AS (
    SELECT
        ordered.release,
        lists.item_id,
        ARG_MAX(lists.title, lists.release = ordered.release) AS title,
        COUNT(*) FILTER (lists.release = ordered.before) AS shoppers_before,
        COUNT(*) FILTER (lists.release = ordered.release) AS shoppers_now
    FROM ordered
    INNER JOIN shown.top_lists AS lists ON lists.release IN (ordered.release, ordered.before)
    WHERE ordered.age = 1 AND ordered.before IS NOT NULL
    GROUP BY ordered.release, lists.item_id
)
SELECT
    counted.release,
    counted.item_id,
    counted.title,
    counted.shoppers_before,
    counted.shoppers_now,
    counted.shoppers_now - counted.shoppers_before AS difference
FROM counted
WHERE counted.shoppers_now <> counted.shoppers_before
ORDER BY counted.release DESC, ABS(difference) DESC, counted.item_id
