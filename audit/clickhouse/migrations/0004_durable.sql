ALTER TABLE {{table "events"}} MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1
;;
ALTER TABLE {{table "calls"}} MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1
;;
ALTER TABLE {{table "approvals"}} MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1
