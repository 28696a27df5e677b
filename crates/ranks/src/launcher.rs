//! What started this process, from the variables that launchers set for their processes.

use std::ffi::OsString;
use std::fmt;

/// A program that starts the processes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `mpirun` of Open MPI.
    OpenMpi,
    /// `mpiexec` of MPICH and its kin: Hydra, which Intel MPI and MVAPICH have too.
    Hydra,
    /// `srun` of Slurm.
    Slurm,
    /// `torchrun` of PyTorch.
    Torchrun,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenMpi => "mpirun of Open MPI",
            Self::Hydra => "mpiexec of MPICH (Hydra)",
            Self::Slurm => "srun of Slurm",
            Self::Torchrun => "torchrun",
        })
    }
}

/// The place of this process in its job, as its launcher says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// The program.
    pub kind: Kind,
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Number of this process among those of its machine, where the launcher says it.
    pub local_rank: Option<usize>,
    /// Number of processes on this machine, where the launcher says it.
    pub local_size: Option<usize>,
    /// With `torchrun`: host and port where its processes meet. The agent listens on the port.
    pub rendezvous: Option<(String, u16)>,
}

impl Launcher {
    /// Of this process; none if it was started alone, is the only one of its job, or has nothing to do with the others, as
    /// `ALEXNET_MPI=none` says.
    pub fn of_process() -> Option<Self> {
        Self::among_others(&|name| std::env::var_os(name))
    }

    fn among_others(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Self> {
        let launcher = Self::find(variable).filter(|launcher| launcher.size > 1)?;
        variable("ALEXNET_MPI").is_none_or(|value| value != "none").then_some(launcher)
    }

    /// From variables. The innermost launcher counts: `torchrun` in a job of `mpirun`, `mpirun` in one of `srun`.
    ///
    /// Of Slurm only the variables of a step are read: in a batch script without `srun`, `SLURM_NTASKS` is the number of
    /// tasks that could be started.
    pub fn find(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Self> {
        let number = |name: &str| variable(name)?.to_str()?.trim().parse::<usize>().ok();
        let launcher = |kind, rank: &str, size: &str, local_rank: &str, local_size: Option<usize>| {
            let (rank, size) = (number(rank)?, number(size)?);
            let local_rank = number(local_rank);
            (rank < size).then_some(Self { kind, rank, size, local_rank, local_size, rendezvous: None })
        };
        if variable("TORCHELASTIC_RUN_ID").is_some() {
            let found = launcher(Kind::Torchrun, "RANK", "WORLD_SIZE", "LOCAL_RANK", number("LOCAL_WORLD_SIZE"))?;
            let port = number("MASTER_PORT").and_then(|port| u16::try_from(port).ok());
            let host = variable("MASTER_ADDR").and_then(|host| host.into_string().ok());
            return Some(Self { rendezvous: host.zip(port), ..found });
        }
        let local_size = number("OMPI_COMM_WORLD_LOCAL_SIZE");
        launcher(
            Kind::OpenMpi,
            "OMPI_COMM_WORLD_RANK",
            "OMPI_COMM_WORLD_SIZE",
            "OMPI_COMM_WORLD_LOCAL_RANK",
            local_size,
        )
        .or_else(|| {
            // `srun --mpi=pmi2` sets PMI_RANK and PMI_SIZE too.
            let step = variable("SLURM_STEP_NUM_TASKS").is_some() && variable("MPI_LOCALRANKID").is_none();
            let hydra = || launcher(Kind::Hydra, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", number("MPI_LOCALNRANKS"));
            if step { None } else { hydra() }
        })
        .or_else(|| launcher(Kind::Slurm, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<Launcher> {
        Launcher::find(&|name| {
            let (_, value) = variables.iter().find(|(variable, _)| *variable == name)?;
            Some(value.into())
        })
    }

    type Short = (Kind, usize, usize, Option<usize>, Option<usize>);

    fn short(variables: &[(&str, &str)]) -> Option<Short> {
        found(variables).map(|l| (l.kind, l.rank, l.size, l.local_rank, l.local_size))
    }

    const OPEN_MPI: [(&str, &str); 4] = [
        ("OMPI_COMM_WORLD_RANK", "5"),
        ("OMPI_COMM_WORLD_SIZE", "8"),
        ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ("OMPI_COMM_WORLD_LOCAL_SIZE", "4"),
    ];
    const HYDRA: [(&str, &str); 4] =
        [("PMI_RANK", "1"), ("PMI_SIZE", "2"), ("MPI_LOCALRANKID", "1"), ("MPI_LOCALNRANKS", "2")];
    const STEP: [(&str, &str); 3] = [("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_LOCALID", "0")];
    const TORCHRUN: [(&str, &str); 7] = [
        ("TORCHELASTIC_RUN_ID", "none"),
        ("RANK", "2"),
        ("WORLD_SIZE", "4"),
        ("LOCAL_RANK", "0"),
        ("LOCAL_WORLD_SIZE", "2"),
        ("MASTER_ADDR", "node-1"),
        ("MASTER_PORT", "29500"),
    ];

    #[test]
    fn each_launcher_by_its_variables() {
        assert_eq!(short(&OPEN_MPI), Some((Kind::OpenMpi, 5, 8, Some(1), Some(4))));
        assert_eq!(short(&HYDRA), Some((Kind::Hydra, 1, 2, Some(1), Some(2))));
        assert_eq!(short(&STEP), Some((Kind::Slurm, 3, 4, Some(0), None)));
        assert_eq!(short(&TORCHRUN), Some((Kind::Torchrun, 2, 4, Some(0), Some(2))));
        assert_eq!(found(&TORCHRUN).unwrap().rendezvous, Some(("node-1".into(), 29500)));
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn the_innermost_launcher_counts() {
        assert_eq!(short(&[&STEP[..], &OPEN_MPI].concat()).unwrap().0, Kind::OpenMpi);
        assert_eq!(short(&[&STEP[..], &HYDRA].concat()).unwrap().0, Kind::Hydra);
        assert_eq!(short(&[&OPEN_MPI[..], &TORCHRUN].concat()).unwrap().0, Kind::Torchrun);
        let pmi2 = [("PMI_RANK", "3"), ("PMI_SIZE", "4")];
        assert_eq!(short(&[&STEP[..], &pmi2].concat()).unwrap().0, Kind::Slurm);
    }

    #[test]
    fn a_process_may_be_alone_among_others() {
        let alone = |variables: &[(&str, &str)]| {
            let find =
                |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into());
            Launcher::among_others(&find).is_none()
        };
        assert!(!alone(&HYDRA) && alone(&[("PMI_RANK", "0"), ("PMI_SIZE", "1")]));
        assert!(!alone(&[&HYDRA[..], &[("ALEXNET_MPI", "/x/libmpi.so.12")]].concat()));
        assert!(alone(&[&HYDRA[..], &[("ALEXNET_MPI", "none")]].concat()));
    }

    #[test]
    fn tasks_that_were_not_started_are_no_ranks() {
        // A batch script of Slurm, and variables that some other program left.
        assert_eq!(found(&[("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0")]), None);
        assert_eq!(found(&[("RANK", "0"), ("WORLD_SIZE", "2")]), None);
        for wrong in ["", "x", "-1", "8"] {
            let mut variables = OPEN_MPI;
            variables[0].1 = wrong;
            assert_eq!(found(&variables), None, "{wrong}");
        }
    }
}
