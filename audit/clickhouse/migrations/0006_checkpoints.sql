ALTER TABLE {{table "checkpoints"}}
    MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1
;;
ALTER TABLE {{table "events"}}
    COMMENT COLUMN kind 'decided, answered, finished, held, approved, changed, counted; unreadable where the leaf could not be decoded.'
;;
ALTER TABLE {{table "calls"}}
    COMMENT COLUMN envoy_node 'Envoy that took the call, as its access log names it; empty until that leg is here.'
