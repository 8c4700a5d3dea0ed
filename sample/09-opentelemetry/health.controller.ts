import { Controller, Get } from '@nestjs/common';
import { HealthCheck, HealthCheckService, HealthIndicatorService } from '@nestjs/terminus';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';

@Controller('health')
export class HealthController {
  /** Above this number of waiting tasks, this instance should get no more requests. */
  static maxPending = 1_000;

  constructor(
    private readonly health: HealthCheckService,
    private readonly indicators: HealthIndicatorService,
    private readonly runner: BackgroundTasksRunner,
  ) {}

  @Get()
  @HealthCheck()
  check() {
    return this.health.check([() => this.backgroundTasks()]);
  }

  private backgroundTasks() {
    const { activeCount: active, pendingCount: pending } = this.runner;
    const indicator = this.indicators.check('backgroundTasks');
    return pending > HealthController.maxPending ? indicator.down({ active, pending }) : indicator.up({ active, pending });
  }
}
