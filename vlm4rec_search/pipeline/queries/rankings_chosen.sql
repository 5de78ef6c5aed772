-- Which ranking does each release have, and why?
SELECT
    releases.release,
    releases.recorded_at,
    releases.ranking ->> '$.version' AS version,
    releases.ranking ->> '$.fusion' AS fusion,
    (releases.ranking ->> '$.diversity')::DOUBLE AS diversity,
    releases.ranking -> '$.weights' AS weights,
    releases.chosen
FROM releases.releases AS releases
WHERE releases.outcome = 'published'
ORDER BY releases.recorded_at
