/*
 * The handoff, as a model for spin: two hosts, a link that loses what it
 * carries, helpers, QEMUs and hosts that crash at any point, and an operator.
 *
 *     source QEMU  ---- fwd: CONTEXT, RELEASE ---->  destination QEMU
 *     source QEMU  <--- back: READY, REASON, DONE --  destination QEMU
 *         |                                              |
 *     source helper (src_stage)              destination helper (dst_stage)
 *
 * Stages are those of migration-sc/transfer/journal-entry.h, transitions
 * those of transfer/stages.c; the comments name the functions.  A helper's
 * stage survives its own crash (the file was renamed into place); a crash of
 * the host brings back either the last stage or the last one that was fsynced
 * (src_disk, dst_disk).
 *
 * P1 (one owner): the guest never runs on both hosts, nor on the source again
 *     once it ran on the destination, and the helpers never both hold that it
 *     is theirs.
 * P2 (all or nothing): it runs on the destination only with its context
 *     committed there; where it stays on the source, nothing that belongs to
 *     it is committed on the destination; and it does not stop for ever
 *     unless a QEMU or a host died, or an undecided end is on record.
 *
 * Variants (spin -D...), each of which must break a property:
 *   NO_FSYNC   RELEASED is told before it is on disk
 *   LATE_COMMIT  the guest runs before COMMITTED is on disk
 *   NO_WAIT    the destination runs at READY, as stock QEMU does
 *   CARELESS   an operator who decides on one host without the other's word
 *   GIVE_BACK  the source takes the guest back when DONE does not come
 *   NO_UNDO    a destination that fails leaves what it staged
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
mtype = { ADMITTED, FROZEN, RELEASED, FINISHED, THAWED,     /* source */
          STAGED, READY, COMMITTED, ABORTED };              /* destination */
mtype = { m_context, m_ready, m_reason, m_release, m_done };

#ifndef CRASHES
#define CRASHES 2
#endif

mtype src_stage = ADMITTED, src_disk = ADMITTED;
mtype dst_stage = ADMITTED, dst_disk = ADMITTED;
bool src_runs = true, dst_runs = false;     /* the guest */
bool src_alive = true, dst_alive = true;    /* the QEMUs */
bool dst_ran = false;           /* ever: what it sent cannot be taken back */
bool link = true;
bool src_released = false;      /* source QEMU asked for RELEASE */
bool unresolved = false;        /* said by a QEMU or by a helper's log */
bool installed = false;         /* state of the guest in dst's kernel */
byte crashes = CRASHES;

chan fwd = [2] of { mtype };
chan back = [3] of { mtype };

/* What a crash or a closed connection does: msc_transfer_disconnect(),
 * recover(); both call msc_source_give_up() or msc_destination_undo(). */
inline source_withdraw()
{
    if
    :: src_stage == ADMITTED || src_stage == FROZEN ->
        src_stage = THAWED; src_disk = THAWED
    :: src_stage == RELEASED -> unresolved = true
    :: else
    fi
}

inline destination_undo()
{
    dst_stage = ABORTED; dst_disk = ABORTED;
#ifndef NO_UNDO
    installed = false
#endif
}

inline destination_withdraw()
{
    if
    :: dst_stage == ADMITTED || dst_stage == STAGED -> destination_undo()
    :: dst_stage == READY -> unresolved = true
    :: else
    fi
}

inline send(channel, what)
{
    if
    :: link -> channel ! what
    :: else
    fi
}

/* migration_completion() to migration_iteration_finish(), with
 * migration/security-context.c. */
proctype SourceQemu()
{
    mtype reply;

    atomic {
        src_runs = false;                   /* vm_stop at switchover */
        if                                  /* security_context_freeze */
        :: src_stage == ADMITTED -> src_stage = FROZEN; send(fwd, m_context)
        :: else -> goto fail                /* the helper was restarted */
        fi
    }
    do                                      /* wait_reply(READY) */
    :: atomic { back ? reply ->
        if
        :: reply == m_ready -> break
        :: reply == m_reason -> goto fail
        :: else
        fi }
    :: goto fail                            /* cut, time-out, cancelled */
    od;

    atomic {                                /* msc_source_release */
        src_released = true;
        if
        :: src_stage == FROZEN ->
            src_stage = RELEASED;
#ifndef NO_FSYNC
            src_disk = RELEASED
#endif
        :: else -> goto fail                /* MSC_RELEASE_REFUSED */
        fi
    }
    if
    :: atomic { send(fwd, m_release) }
    :: skip     /* MSC_RELEASE_UNKNOWN: the helper's word did not arrive */
    fi;

    do                                      /* wait_reply(DONE) */
    :: atomic { back ? reply ->
        if
        :: reply == m_done ->               /* msc_source_finish */
            if
            :: src_stage == RELEASED -> src_stage = FINISHED
            :: else
            fi;
            goto over
        :: else
        fi }
    :: break                                /* cut or time-out */
    od;
#ifdef GIVE_BACK
    src_stage = THAWED;
    src_runs = true;
    goto over;
#endif
    atomic { unresolved = true }            /* paused_here */
end_paused:
    do                                      /* security_context_may_run */
    :: atomic { src_stage == THAWED && src_alive -> src_runs = true; break }
    :: atomic { src_stage == FINISHED -> break }
    od;
    goto over;

fail:                                       /* security_context_thaw */
    atomic {
        if
        :: src_stage == ADMITTED || src_stage == FROZEN -> src_stage = THAWED
        :: else
        fi;
        assert(src_stage == THAWED);        /* RELEASE was never given out */
        if
        :: src_alive -> src_runs = true
        :: else
        fi
    }
over:
    skip
}

/* process_incoming_migration_co(), security_context_accept(). */
proctype DestinationQemu()
{
    if
    :: fwd ? m_context
    :: !link && empty(fwd) -> atomic { destination_withdraw(); goto over }
    :: src_stage == THAWED && empty(fwd) ->     /* the stream just ends */
        atomic { destination_withdraw(); goto over }
    fi;
    atomic {                                /* msc_destination_validate */
        if
        :: dst_stage == ADMITTED -> dst_stage = STAGED; installed = true
        :: else -> send(back, m_reason); goto over
        fi
    }
    if                                      /* msc_destination_ready */
    :: atomic { dst_stage == STAGED ->      /* READY, not fsynced */
        dst_stage = READY }
    :: atomic { dst_stage == STAGED ->      /* or cannot be installed, or QEMU
                                             * cannot load a device */
        destination_undo(); send(back, m_reason); goto over }
    :: atomic { dst_stage != STAGED -> send(back, m_reason); goto over }
    fi;
    atomic { send(back, m_ready) }
#ifdef NO_WAIT
    atomic { dst_stage = COMMITTED; dst_runs = dst_alive; dst_ran = dst_runs };
#endif
    if                                      /* read_release, with a timer */
    :: atomic { fwd ? m_release ->          /* msc_destination_commit */
        if
        :: dst_stage == READY -> dst_stage = COMMITTED;
#ifndef LATE_COMMIT
            dst_disk = COMMITTED
#endif
        :: else
        fi }
    :: atomic { skip -> unresolved = true }
    fi;
end_waits:
    do                                      /* the reply, or wait_verdict */
    :: atomic { dst_stage == COMMITTED ->
        if
        :: dst_alive -> dst_runs = true; dst_ran = true; send(back, m_done)
        :: else
        fi;
        break }
    :: atomic { dst_stage == ABORTED -> break }
    od;
over:
    skip
}

/* Crashes and cuts, as many as CRASHES, wherever they hurt. */
proctype Fate()
{
    do
    :: atomic { crashes > 0 -> crashes--;
        if
        :: true -> source_withdraw()        /* the helper restarts */
        :: true -> destination_withdraw()
        :: src_alive -> src_alive = false; src_runs = false;
            source_withdraw()               /* QEMU is killed */
        :: dst_alive -> dst_alive = false; dst_runs = false;
            destination_withdraw()
        :: src_alive -> src_alive = false; src_runs = false;
            if                              /* the host loses power */
            :: src_stage = src_disk
            :: skip
            fi;
            source_withdraw()
        :: dst_alive -> dst_alive = false; dst_runs = false;
            if
            :: dst_stage = dst_disk
            :: skip
            fi;
            /* Its kernel forgot everything: staged again only by hand. */
            installed = (dst_stage == COMMITTED);
            destination_withdraw()
        :: link -> link = false;            /* what was under way is lost */
            do
            :: fwd ? _
            :: back ? _
            :: break
            od
        fi }
    :: break
    od
}

/*
 * msc_hub_resolve(): the host that shall not have the guest gives it up
 * first, and only its code (RELEASE or ABANDON) lets the other one have it.
 * CARELESS is --force while the other host lives.
 *
 * msc_reconcile_all() does the same between the helpers, with one way more:
 * RELEASE goes straight to the destination.
 */
proctype Operator()
{
    do
    :: atomic { dst_stage == READY && src_stage == FINISHED ->
        dst_stage = COMMITTED; dst_disk = COMMITTED }       /* --here */
    :: atomic { src_stage == RELEASED && dst_stage == COMMITTED ->
        src_stage = FINISHED; src_disk = FINISHED }         /* --there */
    :: atomic { dst_stage == READY && src_stage == THAWED ->
        destination_undo() }                                /* --there */
    :: atomic { src_stage == RELEASED && dst_stage == ABORTED ->
        src_stage = THAWED; src_disk = THAWED }             /* --here */
    /* Both wait: the operator chooses who gives up first. */
    :: atomic { unresolved && src_stage == RELEASED && dst_stage == READY ->
        if
        :: src_stage = FINISHED; src_disk = FINISHED
        :: destination_undo()
#ifdef CARELESS
        :: src_stage = THAWED; src_disk = THAWED
#endif
        fi }
    :: atomic { unresolved && src_stage == RELEASED && dst_stage == READY ->
        dst_stage = COMMITTED; dst_disk = COMMITTED }
    :: break
    od
}

/* What holds in every state: P1, and the half of P2 that is about states. */
#define ours(stage) (stage == ADMITTED || stage == FROZEN || stage == THAWED)
ltl one_owner {
    [] (!(src_runs && (dst_runs || dst_ran)) &&
        !(ours(src_stage) && dst_stage == COMMITTED) &&
        (dst_runs -> dst_stage == COMMITTED && installed))
}

/* What holds when nothing can happen any more. */
proctype Judge()
{
    timeout;
    /* Somebody has it, or died with it, or it is on record that nobody knows */
    assert(src_runs || dst_runs || !src_alive || !dst_alive || unresolved);
    assert(!src_runs || dst_stage != COMMITTED);
    /* Nothing half-installed stays behind in silence. */
    assert(!installed || dst_stage == COMMITTED ||
           (dst_stage == READY && unresolved));
    /* Both undecided only if RELEASE was given and its receipt was lost. */
    assert(!(src_stage == RELEASED) || unresolved || !src_alive);
}

init {
    atomic {
        run SourceQemu();
        run DestinationQemu();
        run Fate();
        run Operator();
        run Judge()
    }
}
