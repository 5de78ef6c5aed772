-- Which items does the newest release show to more or fewer sampled shoppers than the one before?
WITH ordered AS (
    SELECT releases.release, ROW_NUMBER() OVER (ORDER BY releases.recorded_at DESC) AS age
    FROM releases.releases AS releases
    WHERE releases.release IN (SELECT lists.release FROM served.top_lists AS lists)
), counted AS (
    SELECT
        lists.item_id,
        ARG_MAX(lists.title, ordered.age = 1) AS title,
        COUNT(*) FILTER (ordered.age = 2) AS shoppers_before,
        COUNT(*) FILTER (ordered.age = 1) AS shoppers_now
    FROM served.top_lists AS lists
    INNER JOIN ordered ON ordered.release = lists.release AND ordered.age <= 2
    GROUP BY lists.item_id
)
SELECT
    counted.item_id,
    counted.title,
    counted.shoppers_before,
    counted.shoppers_now,
    counted.shoppers_now - counted.shoppers_before AS difference
FROM counted
WHERE counted.shoppers_now <> counted.shoppers_before AND (SELECT MAX(ordered.age) FROM ordered) > 1
ORDER BY ABS(difference) DESC, counted.item_id
