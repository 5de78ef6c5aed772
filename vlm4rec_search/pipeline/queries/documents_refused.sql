-- Which documents and profiles did a publication refuse, and why?
SELECT
    dead_letters.release,
    dead_letters.kind,
    dead_letters.reason,
    COUNT(*) AS refused,
    LIST(dead_letters.id ORDER BY dead_letters.id)[:5] AS examples
FROM releases.dead_letters AS dead_letters
GROUP BY dead_letters.release, dead_letters.kind, dead_letters.reason
ORDER BY dead_letters.release, refused DESC
